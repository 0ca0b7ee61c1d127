package main

import (
	"log/slog"
	"math"
	"syscall"
)

// Shares of the files that the process may have open. A connection is one, and what the store cannot open it cannot
// read or write: clients must not take that away.
const (
	mostStoreFiles = 1000 // more would bring the store little
	otherFiles     = 32   // log, listeners, connections to Redis, an issuer of keys; questions to the webhook come on top
	fewConnections = 1000 // that a server can hardly mean to have
)

// shares is how the files that the process may have open are divided.
type shares struct{ store, connections int }

// openFiles divides the files that the process may have open. Go has raised that to the most by now. The webhook may be
// asked so many questions at a time.
func openFiles(questions int) shares {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > math.MaxInt32 {
		return divide(math.MaxInt32, questions)
	}
	return divide(int(limit.Cur), questions)
}

func divide(files, questions int) shares {
	store := min(mostStoreFiles, files/4)
	return shares{store, max(1, files-store-otherFiles-questions)}
}

// mostConnections returns how many connections there may be at a time, as set or as there are files for beside questions to
// the webhook.
func mostConnections(set, questions int, log *slog.Logger) int {
	most := openFiles(questions).connections
	switch {
	case set > most:
		log.Warn("the limit of open files is too low for so many connections: raise it (ulimit -n, LimitNOFILE)", "connections", set, "files_for", most)
	case set > 0:
		return set
	case most < fewConnections:
		log.Warn("the limit of open files allows few connections: raise it (ulimit -n, LimitNOFILE), or lower webhook-requests",
			"connections", most, "webhook_requests", questions)
	}
	return most
}
