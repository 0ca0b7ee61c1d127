// Package redisstore: placeholder so that umbrad builds while the store is being written. The author of redisstore deletes this file.
package redisstore

import (
	"context"
	"errors"

	"github.com/umbra-iot/umbra/statestore"
)

type Options struct {
	Node          string
	AllowEviction bool
}
type Durability struct{}
type Store struct{ statestore.Store }

func Open(context.Context, string, statestore.Options, Options) (*Store, error) {
	return nil, errors.New("redis: not yet")
}
func (*Store) Report(context.Context) (Durability, error) { return Durability{}, nil }
