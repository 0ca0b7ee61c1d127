package main

import (
	"fmt"
	"log/slog"
	"os"
	"slices"

	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/internal/config"
)

// loadMappings reads the mappings that the settings name: those that come with the program by their
// names, others from files. A file replaces a mapping of the program that has the same name. It is
// nil when there are none.
func loadMappings(cfg *config.Config, log *slog.Logger) (*mapping.Set, error) {
	var all []*mapping.Mapping
	for _, name := range cfg.Mappings {
		text, preset := mapping.Preset(name)
		if !preset {
			var err error
			if text, err = os.ReadFile(name); err != nil {
				return nil, fmt.Errorf("mappings: %q is no mapping of umbrad, and no file: %w", name, err)
			}
		}
		loaded, warnings, err := mapping.Load(name, text)
		if err != nil {
			return nil, fmt.Errorf("mappings: %w", err)
		}
		warn(log, warnings)
		for _, m := range loaded {
			all = slices.DeleteFunc(all, func(o *mapping.Mapping) bool {
				_, replaceable := mapping.Preset(o.File())
				return replaceable && !preset && o.Name() == m.Name()
			})
			all = append(all, m)
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	set, warnings, err := mapping.NewSet(all)
	if err != nil {
		return nil, fmt.Errorf("mappings: %w", err)
	}
	warn(log, warnings)
	return set, nil
}

func warn(log *slog.Logger, warnings []*mapping.Diagnostic) {
	for _, w := range warnings {
		log.Warn("mapping is doubtful", "warning", w.Error())
	}
}
