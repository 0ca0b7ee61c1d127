// Package mappings knows which mappings are in force: those that the settings
// name, which come with the program or are files, and those that operators have
// put into the store while the service runs. It follows files and store; what
// cannot be used leaves in force what was there before.
//
// A mapping of the store takes the place of one of the same name in the
// settings, and a file that of one that comes with the program.
package mappings

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/internal/objects"
	"github.com/umbra-iot/umbra/internal/reload"
)

// Kind is the kind of stored mappings among objects. An object is named as the mapping in it.
const Kind = "mapping"

// stored is the body of an object.
type stored struct {
	Text string `json:"text"` // YAML
}

// Body returns the body of the object of a mapping.
func Body(text []byte) (json.RawMessage, error) {
	return json.Marshal(stored{Text: string(text)}) //nolint:wrapcheck // of a string
}

// Text returns the mapping in the body of an object, as it was put.
func Text(o objects.Object) (string, error) {
	var s stored
	if err := json.Unmarshal(o.Body, &s); err != nil {
		return "", fmt.Errorf("mappings: %s: %w", o.Name, err)
	}
	return s.Text, nil
}

// Directory is the mappings that are in force. Its methods may be called at the same time.
type Directory struct {
	log *slog.Logger

	mu       sync.Mutex // guards what follows; held while a set is put in force, as sets follow in the order of changes
	named    []*source  // by the settings, in their order
	stored   []*source  // by name
	set      *mapping.Set
	use      func(*mapping.Set) error // nil before Use
	conflict error                    // why the sources together cannot be used
}

// source is one place where mappings come from.
type source struct {
	name     string
	preset   bool
	file     reload.State
	version  uint64 // of an object
	text     string
	mappings []*mapping.Mapping // of the last text that could be used
	err      error              // why text cannot be used
}

// Open reads the mappings that the settings name: those that come with the program by their names, others from files.
// Warnings and later failures go to log.
func Open(names []string, log *slog.Logger) (*Directory, error) {
	d := &Directory{log: log}
	for _, name := range names {
		s := &source{name: name}
		text, preset := mapping.Preset(name)
		if s.preset = preset; !preset {
			stamp := reload.StampOf(os.Stat, name)
			var err error
			if text, err = os.ReadFile(name); err != nil {
				return nil, fmt.Errorf("mappings: %q is no mapping of umbrad, and no file: %w", name, err)
			}
			s.file.Done(stamp, nil)
		}
		if s.take(string(text), log); s.err != nil {
			return nil, fmt.Errorf("mappings: %w", s.err)
		}
		d.named = append(d.named, s)
	}
	set, warnings, err := mapping.NewSet(d.all(d.stored))
	if err != nil {
		return nil, fmt.Errorf("mappings: %w", err)
	}
	warn(log, warnings)
	d.set = set
	return d, nil
}

// take compiles a text. One that cannot be used leaves the mappings of the text before.
func (s *source) take(text string, log *slog.Logger) {
	if s.err == nil && s.mappings != nil && text == s.text {
		return
	}
	loaded, warnings, err := mapping.Load(s.name, []byte(text))
	if s.text, s.err = text, err; err == nil {
		s.mappings = loaded
		warn(log, warnings)
	}
}

func warn(log *slog.Logger, warnings []*mapping.Diagnostic) {
	for _, w := range warnings {
		log.Warn("mapping is doubtful", "warning", w.Error())
	}
}

// all returns the mappings of the settings, and those of the store that are given.
func (d *Directory) all(stored []*source) []*mapping.Mapping {
	var all []*mapping.Mapping
	replace := func(s *source, replaceable func(*mapping.Mapping) bool) {
		for _, m := range s.mappings {
			all = slices.DeleteFunc(all, func(o *mapping.Mapping) bool { return o.Name() == m.Name() && replaceable(o) })
			all = append(all, m)
		}
	}
	for _, s := range d.named {
		replace(s, func(o *mapping.Mapping) bool {
			_, preset := mapping.Preset(o.File())
			return preset && !s.preset
		})
	}
	for _, s := range stored {
		replace(s, func(*mapping.Mapping) bool { return true })
	}
	return all
}

// Set returns the mappings that are in force.
func (d *Directory) Set() *mapping.Set {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.set
}

// Use has fn put every later set in force. It is called with one at a time.
func (d *Directory) Use(fn func(*mapping.Set) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.use = fn
}

// Follow takes over the mappings of the store, now and when they change. At first, one that does not go with the
// others is left out.
func (d *Directory) Follow(ctx context.Context, s *objects.Store) error {
	first := true
	err := s.Watch(ctx, Kind, func(list []objects.Object) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.takeObjects(list)
		if first {
			first = false
			d.leaveOut()
		}
		d.apply()
	})
	if err != nil {
		return fmt.Errorf("mappings: %w", err)
	}
	return nil
}

// takeObjects takes over the objects of the store. mu is held.
func (d *Directory) takeObjects(list []objects.Object) {
	next := make([]*source, 0, len(list))
	for _, o := range list {
		s := &source{name: o.Name}
		if i := slices.IndexFunc(d.stored, func(s *source) bool { return s.name == o.Name }); i >= 0 {
			s = d.stored[i]
		}
		next = append(next, s)
		if s.version == o.Version {
			continue
		}
		s.version = o.Version
		text, err := Text(o)
		if err == nil {
			s.take(text, d.log)
			err = s.err
		}
		if s.err = err; err != nil {
			d.log.Error("stored mapping cannot be used", "mapping", o.Name, "version", o.Version, "error", err)
		}
	}
	d.stored = next
}

// leaveOut drops stored mappings that do not go with the others, as there is no earlier set. mu is held.
func (d *Directory) leaveOut() {
	for i, s := range d.stored {
		if _, _, err := mapping.NewSet(d.all(d.stored[:i+1])); err != nil {
			s.mappings, s.err = nil, err
			d.log.Error("stored mapping cannot be used", "mapping", s.name, "version", s.version, "error", err)
		}
	}
}

// Reload reads the files that have changed, or could not be used last time, or all when forced.
func (d *Directory) Reload(force bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	changed := false
	for _, s := range d.named {
		stamp := reload.StampOf(os.Stat, s.name)
		if s.preset || !s.file.Due(stamp) && !force {
			continue
		}
		before := s.file.Problem()
		err := s.read(d.log)
		switch tell := s.file.Done(stamp, err); {
		case err == nil:
			changed = true
			if before != nil {
				d.log.Info("file of mappings can be used again", "file", s.name)
			}
		case tell, force:
			d.log.Error("file of mappings cannot be used, the old one stays in force", "file", s.name, "error", err)
		}
	}
	if changed {
		d.apply()
	}
}

// read takes the text of a file.
func (s *source) read(log *slog.Logger) error {
	text, err := os.ReadFile(s.name)
	if err != nil {
		return err //nolint:wrapcheck // it names the file
	}
	s.take(string(text), log)
	return s.err
}

// apply puts in force what the sources have now. mu is held.
func (d *Directory) apply() {
	all := d.all(d.stored)
	if d.conflict == nil && slices.Equal(all, d.set.Mappings()) {
		return
	}
	set, warnings, err := mapping.NewSet(all)
	if d.conflict = err; err != nil {
		d.log.Error("mappings do not go together, the old ones stay in force", "error", err)
		return
	}
	warn(d.log, warnings)
	d.set = set
	if d.use == nil {
		return
	}
	if err := d.use(set); err != nil {
		d.log.Error("mappings take long to be in force", "error", err)
		return
	}
	d.log.Info("mappings are in force", "mappings", len(all))
}

// Problems tells what cannot be used now, so that something older is in force.
func (d *Directory) Problems() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []string
	for _, s := range slices.Concat(d.named, d.stored) {
		if err := cmp.Or(s.err, s.file.Problem()); err != nil {
			list = append(list, fmt.Sprintf("%s cannot be used: %v", s.name, err))
		}
	}
	if d.conflict != nil {
		list = append(list, fmt.Sprintf("mappings do not go together, older ones are in force: %v", d.conflict))
	}
	return list
}

// ErrName says that a text is not the one mapping of the name that it is to be stored as.
var ErrName = errors.New("mappings: the text must be one mapping of this name")

// Check tells whether a text could be stored as the mapping of a name: it is valid, and goes with what is in force.
// The error is ErrName or a [mapping.LoadError]; what is returned without one are warnings.
func (d *Directory) Check(name string, text []byte) ([]*mapping.Diagnostic, error) {
	loaded, warnings, err := mapping.Load(name, text)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names file, line and key
	}
	if len(loaded) != 1 || loaded[0].Name() != name {
		return nil, ErrName
	}
	more, err := d.with(loaded)
	if err != nil {
		return nil, err
	}
	return append(warnings, more...), nil
}

// Candidate returns the mappings of a text alone, after it has checked that they could be stored. The error is a
// [mapping.LoadError].
func (d *Directory) Candidate(text []byte) (*mapping.Set, error) {
	loaded, _, err := mapping.Load("mapping", text)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names line and key
	}
	if _, err := d.with(loaded); err != nil {
		return nil, err
	}
	set, _, err := mapping.NewSet(loaded)
	return set, err //nolint:wrapcheck // it names line and key
}

// with checks that mappings go with what is in force when they are stored; it returns warnings.
func (d *Directory) with(loaded []*mapping.Mapping) ([]*mapping.Diagnostic, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	stored := slices.Clone(d.stored)
	for _, m := range loaded {
		stored = slices.DeleteFunc(stored, func(s *source) bool { return s.name == m.Name() })
		stored = append(stored, &source{name: m.Name(), mappings: []*mapping.Mapping{m}})
	}
	_, warnings, err := mapping.NewSet(d.all(stored))
	return warnings, err //nolint:wrapcheck // it names file, line and key
}
