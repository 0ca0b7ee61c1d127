package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxNodes bounds the processes that share a data directory.
const maxNodes = 64

// node is the name of this process among those that share a store. It is kept in the data directory, so that
// after a crash the next process goes on where the last one stopped. Processes that run from one directory have
// a file each, which is locked while they run.
type node struct {
	name string
	file *os.File
}

// openNode takes the first file of dir that no process uses.
func openNode(dir string) (*node, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for i := range maxNodes {
		file, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("node-%d", i+1)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			file.Close()
			continue
		}
		n := &node{file: file}
		if err == nil {
			n.name, err = readName(file)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", file.Name(), err), file.Close())
		}
		return n, nil
	}
	return nil, fmt.Errorf("%s: more than %d processes use this directory", dir, maxNodes)
}

// readName reads the name from file, or makes one up and writes it there.
func readName(file *os.File) (string, error) {
	data, err := io.ReadAll(file)
	if err != nil {
		return "", err
	}
	if name := strings.TrimSpace(string(data)); name != "" {
		return name, nil
	}
	name := rand.Text()[:12]
	if _, err := file.WriteAt([]byte(name+"\n"), 0); err != nil {
		return "", err
	}
	return name, file.Sync()
}

// close lets the next process have the name.
func (n *node) close() error { return n.file.Close() }
