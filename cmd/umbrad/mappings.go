package main

import (
	"context"
	"time"

	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/internal/mappings"
)

// mappingsTimeout bounds how long who changes a mapping waits for it to be in force.
const mappingsTimeout = 5 * time.Second

// openMappings reads the mappings of the settings and of the store, and follows those of the store.
func (s *server) openMappings(ctx context.Context) (err error) {
	if s.mappings, err = mappings.Open(s.cfg.Mappings, s.log); err != nil {
		return err
	}
	return s.mappings.Follow(ctx, s.objects)
}

// useMappings puts mappings in force that have changed.
func (s *server) useMappings(set *mapping.Set) error {
	ctx, cancel := context.WithTimeout(context.Background(), mappingsTimeout)
	defer cancel()
	return s.broker.UseMappings(ctx, set)
}
