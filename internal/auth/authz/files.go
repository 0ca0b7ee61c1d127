package authz

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/umbra-iot/umbra/internal/auth/policy"
	"github.com/umbra-iot/umbra/internal/reload"
)

// Names of the files that are no policies.
const (
	fileAttachments = "attachments.json"
	fileThings      = "things.json"
)

// folder is the files of policies, as they were looked at last.
type folder struct {
	dir   fs.FS // nil for none
	state reload.State
}

// Reload reads the files again if one of them has changed, or could not be used last time, or in any case when forced.
// Files that cannot be used, all of them together, leave in force what was read before: see Problems.
func (e *Engine) Reload(force bool) {
	if e.folder.dir == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	stamp := stampOf(e.folder.dir)
	if !force && !e.folder.state.Due(stamp) {
		return
	}
	files, err := readFiles(e.folder.dir, originFile)
	if tell := e.folder.state.Done(stamp, err); err != nil {
		if tell || force {
			e.log.Error("files of policies cannot be used, the old ones stay in force", "error", err)
		}
		return
	}
	e.takeFiles(files)
	e.rebuild()
	e.log.Info("files of policies are read again", "policies", len(files.policies), "targets", len(files.attachments), "things", len(files.things))
}

// takeFiles takes over what was read, and tells what is perhaps misspelt in it. mu is held, but by New.
func (e *Engine) takeFiles(files source) {
	e.files = files
	for _, d := range files.doubts() {
		e.log.Warn("policy is doubtful", "warning", d)
	}
}

// Doubts returns what is perhaps misspelt in the policies of the files, with their names.
func (e *Engine) Doubts() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.files.doubts()
}

// doubts returns what is perhaps misspelt in the policies, with their names.
func (s source) doubts() []string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(s.policies)) {
		for _, d := range Doubts(s.policies[name].text) {
			list = append(list, name+": "+d)
		}
	}
	return list
}

// Problems tells what cannot be used now, so that something older is in force.
func (e *Engine) Problems() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.folder.state.Problem() == nil {
		return nil
	}
	return []string{"files of policies cannot be used, the old ones are in force; the log says why"}
}

// stampOf returns the stamp of the files.
func stampOf(dir fs.FS) reload.Stamp {
	names, err := list(dir)
	if err != nil {
		return "the folder cannot be read"
	}
	stat := func(name string) (fs.FileInfo, error) { return fs.Stat(dir, name) } // of the file, where name is a link
	return reload.StampOf(stat, names...)
}

// list returns the names of the files of a folder.
func list(dir fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return nil, err //nolint:wrapcheck // the callers do
	}
	var names []string
	for _, e := range entries {
		if path.Ext(e.Name()) == ".json" {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// readFiles reads the files of a folder. It joins all errors.
func readFiles(dir fs.FS, origin string) (source, error) {
	s := source{policies: map[string]document{}, attachments: map[string][]string{}, things: map[string]Thing{}}
	names, err := list(dir)
	if err != nil {
		return s, fmt.Errorf("authz: %w", err)
	}
	var errs []error
	for _, file := range names {
		text, err := fs.ReadFile(dir, file)
		if err != nil {
			errs = append(errs, fmt.Errorf("authz: %w", err))
			continue
		}
		switch file {
		case fileAttachments:
			s.attachments, err = decodeAttachments(text)
		case fileThings:
			s.things, err = decodeThings(text, origin)
		default:
			var p *policy.Policy
			name := strings.TrimSuffix(file, ".json")
			if p, err = policy.Parse(name, text); err == nil {
				s.policies[name] = document{text, p, origin}
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("authz: %s: %w", file, err))
		}
	}
	return s, errors.Join(errs...)
}

// decodeAttachments parses names of policies by the targets that they are attached to.
func decodeAttachments(text []byte) (map[string][]string, error) {
	attachments := map[string][]string{}
	if err := decode(text, &attachments); err != nil {
		return nil, err
	}
	var errs []error
	for _, target := range slices.Sorted(maps.Keys(attachments)) {
		errs = append(errs, CheckTarget(target))
	}
	return attachments, errors.Join(errs...)
}
