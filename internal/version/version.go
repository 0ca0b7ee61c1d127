// Package version says which build of Umbra is running. Both programs and the
// HTTP API use it, so that they never disagree.
package version

import (
	"runtime"
	"runtime/debug"
	"strings"
)

// number is set by release builds with
//
//	-ldflags "-X github.com/umbra-iot/umbra/internal/version.number=v1.2.3"
var number string

// Info describes a build.
type Info struct {
	Version  string `json:"version"`            // "v1.2.3", or "devel" for a build from a working tree
	Commit   string `json:"commit,omitempty"`   // revision of the source, "" when the build did not record it
	Modified bool   `json:"modified,omitempty"` // the source differed from Commit
	Go       string `json:"go"`                 // Go release that built it, "go1.26.0"
	Platform string `json:"platform"`           // "linux/amd64"
}

// Get returns the description of the running program.
func Get() Info {
	build, _ := debug.ReadBuildInfo()
	return describe(number, build)
}

// String returns the short form, "v1.2.3" or "devel (0123456789ab, modified)".
func (i Info) String() string {
	var notes []string
	if i.Commit != "" {
		notes = append(notes, i.Commit[:min(len(i.Commit), 12)])
	}
	if i.Modified {
		notes = append(notes, "modified")
	}
	if len(notes) == 0 {
		return i.Version
	}
	return i.Version + " (" + strings.Join(notes, ", ") + ")"
}

// describe prefers the number of a release build, then the version that
// "go install module@version" records in build, which may be nil.
func describe(number string, build *debug.BuildInfo) Info {
	i := Info{Version: number, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if build == nil {
		build = &debug.BuildInfo{}
	}
	if i.Version == "" {
		i.Version = build.Main.Version
	}
	if i.Version == "" || i.Version == "(devel)" {
		i.Version = "devel"
	}
	for _, s := range build.Settings {
		switch s.Key {
		case "vcs.revision":
			i.Commit = s.Value
		case "vcs.modified":
			i.Modified = s.Value == "true"
		}
	}
	return i
}
