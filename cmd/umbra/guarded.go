package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/umbra-iot/umbra/internal/client"
)

// maxAttempts bounds how often a guarded update starts again because somebody else was faster.
const maxAttempts = 10

// errUnchanged says that a document is already as it should become.
var errUnchanged = errors.New("nothing to change")

// guardedUpdate is an update that depends on the document as it is. It is sent for the version
// that was read; if somebody else changes the shadow meanwhile, it looks again.
type guardedUpdate struct {
	subject
	options updateOptions
	// patch returns what to merge into the section of doc, which is nil without a shadow. The patch
	// nil removes the section; errUnchanged ends the update.
	patch func(doc *document) (object, error)
	// remark, unless it is nil, has its say before the outcome is printed.
	remark  func(changed bool)
	current *document // as last read
}

// updateGuarded does a guarded update, or a dry run of it, and prints the outcome.
func (a *app) updateGuarded(ctx context.Context, u *guardedUpdate) error {
	remark := func(changed bool) {
		if u.remark != nil {
			u.remark(changed)
		}
	}
	if u.options.dryRun {
		doc, err := fetchIfAny(ctx, u.client, u.id)
		if err != nil {
			return err
		}
		patch, err := u.patch(doc)
		if errors.Is(err, errUnchanged) {
			patch, err = object{}, nil
		}
		if err != nil {
			return err
		}
		remark(true)
		return a.dryRun(u.subject, doc, patch, u.options)
	}
	accepted, err := u.run(ctx)
	if err != nil {
		return err
	}
	remark(accepted != nil)
	switch {
	case accepted != nil:
		return a.printUpdated(u.subject, accepted)
	case u.current != nil:
		return a.printUpdated(u.subject, u.current.raw)
	}
	return nil // there is no shadow, and that is fine
}

// run returns the accepted update, nil when there was nothing to do.
func (u *guardedUpdate) run(ctx context.Context) (accepted []byte, err error) {
	for range maxAttempts {
		if u.current, err = fetchIfAny(ctx, u.client, u.id); err != nil {
			return nil, err
		}
		patch, err := u.patch(u.current)
		if errors.Is(err, errUnchanged) {
			return accepted, u.options.ifVersion.check(u.id, u.current)
		}
		if err != nil {
			return nil, err
		}
		answer, err := u.attempt(ctx, patch)
		switch {
		case err == nil && (u.current != nil || u.options.ifVersion.given):
			return answer, nil
		case err == nil:
			accepted = answer // made anew and without a guard: look whether somebody else did so too
		case !isConflict(err) || u.options.ifVersion.given:
			return nil, fmt.Errorf("%s: %w", display(u.id), err)
		}
	}
	return nil, failf(exitConflict, "%s: others kept changing it during %d attempts", display(u.id), maxAttempts)
}

func (u *guardedUpdate) attempt(ctx context.Context, patch object) ([]byte, error) {
	o := u.options
	if !o.ifVersion.given && u.current != nil {
		o.ifVersion = versionFlag{given: true, n: u.current.version()}
	}
	return u.client.Update(ctx, u.id, updateRequest(o, patch))
}

func isConflict(err error) bool {
	refusal, ok := errors.AsType[*client.Error](err)
	return ok && statusExitCode(refusal.Status) == exitConflict
}
