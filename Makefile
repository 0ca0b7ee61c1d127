# make run      the service on 127.0.0.1, MQTT 1883 and HTTP 8080, data in ./umbra-data
# make test     every test, with the race detector
# make help     the other targets

BIN   := $(CURDIR)/bin
TOOLS := $(BIN)/tools

GOFUMPT     := $(TOOLS)/gofumpt-v0.12.0
STATICCHECK := $(TOOLS)/staticcheck-v0.8.2
DEADCODE    := $(TOOLS)/deadcode-v0.52.0
GOLANGCI    := $(TOOLS)/golangci-lint-v2.15.0

.PHONY: all run build test test-deps race fuzz bench cover lint lint-full fmt tools ci clean help

all: build lint test ## build, lint and test

run: build ## run the service on 127.0.0.1: MQTT 1883, HTTP 8080, data in ./umbra-data
	$(BIN)/umbrad $(ARGS)

build: ## build umbrad and umbra into bin/
	CGO_ENABLED=0 go build -trimpath -o $(BIN)/ ./cmd/...

test: race ## run all tests as CI does (installs what they need where it may)

race: test-deps
	go test -race -shuffle=on -timeout 20m ./...

test-deps: ## install what the tests talk to: redis-server, mosquitto-clients, awscli, npm
	@scripts/test-deps

FUZZTIME ?= 20s
fuzz: ## run every fuzz target for FUZZTIME
	@for pkg in $$(go list ./...); do \
	  for f in $$(go test -list '^Fuzz' -run '^$$' $$pkg | grep ^Fuzz); do \
	    go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$pkg || exit; \
	  done; done

bench: build ## run the benchmarks
	go test -run '^$$' -bench . -benchmem ./...

cover: test-deps ## write cover.out and print the total
	go test -shuffle=on -coverpkg=./... -coverprofile=cover.out ./... && go tool cover -func=cover.out | tail -1

lint: $(GOFUMPT) $(STATICCHECK) $(DEADCODE) ## the static checks of CI
	@out=$$(git ls-files -co --exclude-standard '*.go' | xargs $(GOFUMPT) -l); test -z "$$out" || { echo "not formatted:" $$out; exit 1; }
	go vet ./...
	$(STATICCHECK) ./...
	@out=$$($(DEADCODE) -test ./...); test -z "$$out" || { echo "$$out"; exit 1; }
	go mod tidy -diff

lint-full: lint $(GOLANGCI) ## lint, and all linters of .golangci.yml (building them takes minutes)
	$(GOLANGCI) run ./...

fmt: $(GOFUMPT) ## format
	git ls-files -co --exclude-standard '*.go' | xargs $(GOFUMPT) -w

# Linters are built once; the version is in the name of the file. They are no dependencies of the module.
install = GOBIN=$@.new GOFLAGS= go install $(1) && mv $@.new/* $@ && rmdir $@.new
$(GOFUMPT):     ; $(call install,mvdan.cc/gofumpt@v0.12.0)
$(STATICCHECK): ; $(call install,honnef.co/go/tools/cmd/staticcheck@v0.8.2)
$(DEADCODE):    ; $(call install,golang.org/x/tools/cmd/deadcode@v0.52.0)
$(GOLANGCI):    ; $(call install,github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0)

tools: $(GOFUMPT) $(STATICCHECK) $(DEADCODE) $(GOLANGCI) ## install the linters

ci: ## what CI runs
	.ci/run

clean: ## remove what make made
	rm -rf $(BIN) cover.out

help: ## print this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12
