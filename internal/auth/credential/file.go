package credential

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"go.yaml.in/yaml/v3"

	"github.com/umbra-iot/umbra/internal/atomicfile"
	"github.com/umbra-iot/umbra/internal/auth/password"
)

// File is the credentials of a file.
type File struct {
	Users  map[string]User      `yaml:"users,omitempty"`
	Keys   map[string]AccessKey `yaml:"keys,omitempty"`   // by id
	Tokens map[string]Token     `yaml:"tokens,omitempty"` // by id
}

// ReadFile reads a file. With the error [fs.ErrNotExist] it returns an empty one too, for who takes it for that.
func ReadFile(name string) (*File, error) {
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return &File{}, fmt.Errorf("credential: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("credential: %w", err)
	}
	f := &File{}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(f); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("credential: %s: %w", name, err)
	}
	if err := f.check(); err != nil {
		return nil, fmt.Errorf("credential: %s: %w", name, err)
	}
	return f, nil
}

func (f *File) check() error {
	var errs []error
	for name, u := range f.Users {
		if err := errors.Join(CheckName(name), password.Check(u.Hash)); err != nil {
			errs = append(errs, fmt.Errorf("user %q: %w", name, err))
		}
	}
	for id, k := range f.Keys {
		if k.Secret == "" {
			errs = append(errs, fmt.Errorf("key %q has no secret", id))
		}
	}
	for id, t := range f.Tokens {
		if len(t.Hash) != 64 {
			errs = append(errs, fmt.Errorf("token %q has no SHA-256", id))
		}
		if t.Scopes != nil && len(t.Scopes) == 0 {
			errs = append(errs, fmt.Errorf("token %q has scopes and lists none", id))
		}
	}
	return errors.Join(errs...)
}

// Write replaces a file at once. A new one is readable by its owner only, one that is there keeps owner and mode: see
// [atomicfile.Write]. What ReadFile would refuse is not written.
func (f *File) Write(name string) error {
	if err := f.check(); err != nil {
		return fmt.Errorf("credential: %w", err)
	}
	text, err := yaml.Marshal(f)
	if err != nil {
		return fmt.Errorf("credential: %w", err)
	}
	return atomicfile.Write(name, text, 0o600)
}
