package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// change is a leaf that differs: nil stands for "is not there".
type change struct {
	path          path
	before, after *leaf
}

// compareStates compares states section by section.
func compareStates(before, after object) []change {
	var changes []change
	for _, section := range []string{sectionDesired, sectionReported} {
		a, _ := before[section].(object)
		b, _ := after[section].(object)
		changes = append(changes, compareObjects(path{section}, a, b)...)
	}
	return changes
}

// compareObjects returns the leaves in which two objects differ, in order of their paths, which
// begin with prefix.
func compareObjects(prefix path, before, after object) []change {
	changes := map[string]change{}
	for _, l := range leavesWithin(before) {
		changes[l.path.String()] = change{path: l.path, before: &l}
	}
	for _, l := range leavesWithin(after) {
		key := l.path.String()
		c := changes[key]
		if c.before != nil && equal(c.before.value, l.value) {
			delete(changes, key)
			continue
		}
		changes[key] = change{path: l.path, before: c.before, after: &l}
	}
	out := slices.Collect(maps.Values(changes))
	slices.SortFunc(out, func(a, b change) int { return slices.Compare(a.path, b.path) })
	for i := range out {
		out[i].path = slices.Concat(prefix, out[i].path)
	}
	return out
}

// printChanges writes a line with "-" for each value that goes and one with "+" for each that comes.
func (a *app) printChanges(changes []change) error {
	for _, c := range changes {
		for _, side := range []struct {
			sign string
			leaf *leaf
			tint tint
		}{{"-", c.before, tintRed}, {"+", c.after, tintGreen}} {
			if side.leaf == nil {
				continue
			}
			line := visible(fmt.Sprintf("%s%s: %s", side.sign, c.path, text(side.leaf.value)))
			if _, err := fmt.Fprintln(a.stdout, side.tint.paint(line, a.colour)); err != nil {
				return err
			}
		}
	}
	return nil
}

// changeObjects returns changes as JSON has them: "old" and "new" stand there only when there is such a value.
func changeObjects(changes []change) []any {
	out := make([]any, len(changes))
	for i, c := range changes {
		o := object{"path": c.path.String()}
		if c.before != nil {
			o["old"] = c.before.value
		}
		if c.after != nil {
			o["new"] = c.after.value
		}
		out[i] = o
	}
	return out
}

// jsonPatch returns the operations of RFC 6902 that turn before into after.
func jsonPatch(before, after object) []any { return appendPatch([]any{}, "", before, after) }

func appendPatch(dst []any, at string, before, after object) []any {
	patch := mergePatch(before, after)
	for _, key := range sortedKeys(patch) {
		pointer := at + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
		have, there := before[key]
		want, stays := after[key]
		haveObject, ok1 := have.(object)
		wantObject, ok2 := want.(object)
		switch {
		case !stays:
			dst = append(dst, object{"op": "remove", "path": pointer})
		case ok1 && ok2:
			dst = appendPatch(dst, pointer, haveObject, wantObject)
		case there:
			dst = append(dst, object{"op": "replace", "path": pointer, "value": want})
		default:
			dst = append(dst, object{"op": "add", "path": pointer, "value": want})
		}
	}
	return dst
}
