# make run      the service on 127.0.0.1, MQTT 1883 and HTTP 8080, data in ./umbra-data
# make test     every test, with the race detector
# make help     the other targets

BIN   := $(CURDIR)/bin
TOOLS := $(BIN)/tools

DEADCODE := $(TOOLS)/deadcode-v0.52.0
GOLANGCI := $(TOOLS)/golangci-lint-v2.15.0

.PHONY: all run build test test-deps race fuzz torture e2e-zigbee2mqtt bench cover lint fmt tools ci clean help

all: build lint test ## build, lint and test

run: build ## run the service on 127.0.0.1: MQTT 1883, HTTP 8080, data in ./umbra-data
	$(BIN)/umbrad $(ARGS)

build: ## build umbrad and umbra into bin/
	CGO_ENABLED=0 go build -trimpath -o $(BIN)/ ./cmd/...

# The race detector needs a C compiler.
RACE = $(if $(filter 1,$(shell go env CGO_ENABLED)),-race)

test: test-deps ## run all tests as CI does, having installed what they need where that is possible
	go test $(RACE) -shuffle=on -timeout 20m ./...

race: ## run the tests with the race detector
	go test -race -shuffle=on -timeout 20m ./...

test-deps: ## install what the tests use: redis-server, mosquitto-clients, awscli, npm, strace, chromium-headless-shell
	@scripts/test-deps

FUZZTIME ?= 20s
fuzz: ## run every fuzz target, and the one of the listeners, for FUZZTIME
	@for pkg in $$(go list ./...); do \
	  for f in $$(go test -list '^Fuzz' -run '^$$' $$pkg | grep ^Fuzz); do \
	    go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x $$pkg || exit; \
	  done; done
	UMBRA_FUZZTIME=$(FUZZTIME) go test -run TestListenerFuzz -timeout 1h -v ./test/e2e

DURATION ?= 1h
SEED ?= 0
STORE ?=
STEPS ?= 1000000
torture: test-deps ## break everything for DURATION (1h), on STORE (pebble, redis; both), SEED repeats a run's order of faults
	go test -count=1 -run '^Test(Model|Crashes)$$' -timeout 2h ./broker/session -args -steps=$(STEPS) -durable-steps=200000
	go test -count=1 -run '^TestTorture$$' -v -timeout 0 ./test/e2e -args -torture=$(DURATION) -torture.store=$(STORE) -torture.seed=$(SEED)

e2e-zigbee2mqtt: test-deps ## run Zigbee2MQTT itself with umbrad, but for its radio: installs it with npm, takes minutes
	CI=true go test -count=1 -run '^TestZigbee2MQTT$$' -v -timeout 20m ./test/e2e -args -zigbee2mqtt

bench: ## run the benchmarks (bench/README.md tells how to read them)
	go test -run '^$$' -bench . -benchmem -p 1 -timeout 30m ./...

cover: test-deps ## write cover.out and print the total
	go test -shuffle=on -coverpkg=./... -coverprofile=cover.out ./... && go tool cover -func=cover.out | tail -1

lint: $(GOLANGCI) $(DEADCODE) ## static checks: .golangci.yml, unreachable code, go.mod
	$(GOLANGCI) run ./...
	@out=$$($(DEADCODE) -test ./...); test -z "$$out" || { echo "$$out"; exit 1; }
	go mod tidy -diff

fmt: $(GOLANGCI) ## format
	$(GOLANGCI) fmt ./...

# Linters are built once; the version is in the name of the file. They are no dependencies of the module.
install = GOBIN=$@.new GOFLAGS= go install $(1) && mv $@.new/* $@ && rmdir $@.new
$(DEADCODE): ; $(call install,golang.org/x/tools/cmd/deadcode@v0.52.0)
$(GOLANGCI): ; $(call install,github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0)

tools: $(DEADCODE) $(GOLANGCI) ## install the linters (golangci-lint takes minutes)

ci: ## what CI runs
	.ci/run

clean: ## remove what make made
	rm -rf $(BIN) cover.out

help: ## print this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18
