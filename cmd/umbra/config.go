package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"github.com/umbra-iot/umbra/internal/atomicfile"
	"github.com/umbra-iot/umbra/internal/client"
)

// config is the file of contexts.
type config struct {
	Current  string                 `yaml:"current,omitempty"`
	Previous string                 `yaml:"previous,omitempty"`
	Contexts map[string]serverEntry `yaml:"contexts,omitempty"`
}

// serverEntry is one context.
type serverEntry struct {
	Server string `yaml:"server"`
	Who    who    `yaml:",inline"`
}

// configFile returns the path of the file, which need not exist.
func (a *app) configFile() (string, error) {
	dir := a.getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find the file of contexts: %w", err)
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "umbra", "config.yaml"), nil
}

// loadConfig returns an empty config when there is no file.
func (a *app) loadConfig() (*config, error) {
	name, err := a.configFile()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return &config{}, nil
	}
	if err != nil {
		return nil, err
	}
	var c config
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return nil, failf(exitUsage, "%s: %w", name, err)
	}
	return &c, nil
}

// saveConfig replaces the file at once; a new one is readable by its owner only. editConfig calls it.
func (a *app) saveConfig(c *config) error {
	name, err := a.configFile()
	if err != nil {
		return err
	}
	text, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode contexts: %w", err)
	}
	return atomicfile.Write(name, text, 0o600)
}

// choice is the server to talk to and who chose it.
type choice struct {
	server, context, from string
	who                   who
}

// chooseServer looks at --server, --context, UMBRA_SERVER, UMBRA_CONTEXT, the current context
// and the default, in this order.
func (a *app) chooseServer() (choice, error) {
	name, from := a.context, "--context"
	switch {
	case a.server != "":
		return choice{server: a.server, from: "--server"}, nil
	case name != "":
	case a.getenv("UMBRA_SERVER") != "":
		return choice{server: a.getenv("UMBRA_SERVER"), from: "UMBRA_SERVER"}, nil
	default:
		name, from = a.getenv("UMBRA_CONTEXT"), "UMBRA_CONTEXT"
	}
	c, err := a.loadConfig()
	if err != nil {
		return choice{}, err
	}
	if name == "" {
		name, from = c.Current, "current context"
	}
	if name == "" {
		return choice{server: client.DefaultServer, from: "default"}, nil
	}
	entry, ok := c.Contexts[name]
	if !ok {
		return choice{}, usagef("context %q of %s does not exist; 'umbra context ls' lists them", name, from)
	}
	return choice{server: cmp.Or(entry.Server, client.DefaultServer), context: name, from: from, who: entry.Who}, nil
}
