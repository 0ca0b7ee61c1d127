package credential

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"github.com/umbra-iot/umbra/internal/auth/password"
)

// File is the credentials of a file.
type File struct {
	Users  map[string]User      `yaml:"users,omitempty"`
	Keys   map[string]AccessKey `yaml:"keys,omitempty"`   // by id
	Tokens map[string]Token     `yaml:"tokens,omitempty"` // by id
}

// ReadFile reads a file; one that does not exist is empty.
func ReadFile(name string) (*File, error) {
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return &File{}, nil
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
	}
	return errors.Join(errs...)
}

// IsExposed reports whether others than its owner may read a file.
func IsExposed(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().Perm()&0o077 != 0
}

// Write replaces a file at once, readable by its owner only.
func (f *File) Write(name string) error {
	text, err := yaml.Marshal(f)
	if err != nil {
		return fmt.Errorf("credential: %w", err)
	}
	temp, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+"-*") // has mode 0600
	if err != nil {
		return fmt.Errorf("credential: %w", err)
	}
	defer os.Remove(temp.Name()) // gone already when all went well
	_, err = temp.Write(text)
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return fmt.Errorf("credential: %s: %w", name, err)
	}
	if err := os.Rename(temp.Name(), name); err != nil {
		return fmt.Errorf("credential: %w", err)
	}
	return nil
}
