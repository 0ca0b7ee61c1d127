package mappings_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/internal/mappings"
	"github.com/umbra-iot/umbra/internal/objects"
	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/memstore"
)

func text(name, topic string) string {
	return "version: 1\nmapping: " + name + "\nthing: \"" + name + "-{dev}\"\nreport: [{topic: \"" + topic + "/{dev}\", to: v}]\n"
}

// following is a directory of one file and a store, and the sources of the mappings that were last put in force.
type following struct {
	*mappings.Directory
	t     *testing.T
	file  string
	store *objects.Store
	last  *mapping.Set
}

func follow(t *testing.T, content string, names ...string) *following {
	t.Helper()
	f := &following{t: t, file: filepath.Join(t.TempDir(), "mine.yaml")}
	f.write(content)
	d, err := mappings.Open(append(names, f.file), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	f.Directory, f.last = d, d.Set()
	f.store = objects.New(objects.Options{Objects: memstore.New(statestore.Options{})})
	if err := d.Follow(t.Context(), f.store); err != nil {
		t.Fatal(err)
	}
	d.Use(func(s *mapping.Set) error {
		f.last = s
		return nil
	})
	return f
}

func (f *following) write(content string) {
	f.t.Helper()
	if err := os.WriteFile(f.file, []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f *following) put(name, content string) {
	f.t.Helper()
	body, err := mappings.Body([]byte(content))
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.store.Put(f.t.Context(), objects.Object{Kind: mappings.Kind, Name: name, Body: body}, objects.Any, ""); err != nil {
		f.t.Fatal(err)
	}
}

// takes reports whether a rule in force is about a topic.
func (f *following) takes(topic string) bool {
	return f.last.Prepare(mapping.Message{Topic: topic, Payload: []byte("1")}) != nil
}

func TestStoredMappingsCountAtOnceAndTakeTheirNames(t *testing.T) {
	t.Parallel()
	f := follow(t, text("plug", "one"), "tasmota")
	kept := f.last.Mappings()[0]
	f.put("lamp", text("lamp", "two"))
	if !f.takes("one/a") || !f.takes("two/a") {
		t.Error("a stored mapping is not in force beside those of the settings")
	}
	if f.last.Mappings()[0] != kept {
		t.Error("a mapping that has not changed was made again")
	}
	f.put("plug", text("plug", "three"))
	if f.takes("one/a") || !f.takes("three/a") {
		t.Error("a stored mapping does not take the place of the file's")
	}
	if err := f.store.Delete(t.Context(), mappings.Kind, "plug", objects.Any, ""); err != nil {
		t.Fatal(err)
	}
	if !f.takes("one/a") || f.takes("three/a") {
		t.Error("the file's mapping is not in force again when the stored one is gone")
	}
}

func TestFilesAreReadAgain(t *testing.T) {
	t.Parallel()
	f := follow(t, text("plug", "one"))
	for _, step := range []struct {
		content, takes string
		problem        string // part of what Problems tells
	}{
		{text("plug", "another"), "another/a", ""},
		{"mapping: [", "another/a", "mine.yaml"},
		{text("plug", "one") + "colour: red\n", "another/a", "colour"},
		{text("plug", "third"), "third/a", ""},
	} {
		f.write(step.content)
		f.Reload(true)
		if !f.takes(step.takes) {
			t.Errorf("after %q no rule takes %s", step.content, step.takes)
		}
		problems := strings.Join(f.Problems(), "\n")
		if (problems != "") != (step.problem != "") || !strings.Contains(problems, step.problem) {
			t.Errorf("after %q Problems() = %q, want %q in it", step.content, problems, step.problem)
		}
	}
	if err := os.Remove(f.file); err != nil {
		t.Fatal(err)
	}
	f.Reload(false)
	if !f.takes("third/a") || len(f.Problems()) != 1 {
		t.Errorf("a file that is gone: Problems() = %q", f.Problems())
	}
}

func TestSetsThatDoNotGoTogetherLeaveTheOldOne(t *testing.T) {
	t.Parallel()
	f := follow(t, text("plug", "one"))
	f.put("lamp", text("lamp", "two"))
	f.write(text("plug", "one") + "---\n" + text("plug", "three"))
	f.Reload(false)
	if !f.takes("one/a") || !f.takes("two/a") || f.takes("three/a") || len(f.Problems()) != 1 {
		t.Errorf("two mappings of one name: Problems() = %q", f.Problems())
	}
	f.write(text("plug", "four"))
	f.Reload(false)
	if !f.takes("four/a") || len(f.Problems()) != 0 {
		t.Errorf("after the repair: Problems() = %q", f.Problems())
	}
}

func TestStoredMappingThatIsWrongAtStartIsLeftOut(t *testing.T) {
	t.Parallel()
	f := follow(t, text("plug", "one"))
	for name, content := range map[string]string{"bad": "nonsense", "good": text("good", "good")} {
		f.put(name, content)
	}
	d, err := mappings.Open([]string{f.file}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Follow(t.Context(), f.store); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range d.Set().Mappings() {
		names = append(names, m.Name())
	}
	if !slices.Equal(names, []string{"plug", "good"}) || len(d.Problems()) != 1 {
		t.Errorf("in force are %q, Problems() = %q", names, d.Problems())
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	f := follow(t, text("plug", "one"))
	for content, want := range map[string]string{
		text("lamp", "two"):                            "",
		text("lamp", "two") + "colour: red\n":          "lamp:5: colour: unknown key",
		text("plug", "two"):                            mappings.ErrName.Error(),
		text("lamp", "two") + "---\n" + text("b", "b"): mappings.ErrName.Error(),
	} {
		_, err := f.Check("lamp", []byte(content))
		if (err != nil) != (want != "") || err != nil && err.Error() != want {
			t.Errorf("Check(%q) = %v, want %q", content, err, want)
		}
	}
	if f.takes("two/a") {
		t.Error("Check has put something in force")
	}
}
