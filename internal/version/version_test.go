package version

import (
	"runtime/debug"
	"testing"
)

func TestDescribe(t *testing.T) {
	t.Parallel()
	vcs := []debug.BuildSetting{
		{Key: "vcs.revision", Value: "0123456789abcdef0123456789abcdef01234567"},
		{Key: "vcs.modified", Value: "true"},
	}
	tests := map[string]struct {
		number string
		build  *debug.BuildInfo
		want   string
	}{
		"nothing known": {want: "devel"},
		"working tree":  {build: &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, want: "devel"},
		"go install":    {build: &debug.BuildInfo{Main: debug.Module{Version: "v1.0.0"}}, want: "v1.0.0"},
		"release wins":  {number: "v2.0.0", build: &debug.BuildInfo{Main: debug.Module{Version: "v1.0.0"}}, want: "v2.0.0"},
		"with source":   {build: &debug.BuildInfo{Settings: vcs}, want: "devel (0123456789ab, modified)"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := describe(tt.number, tt.build).String(); got != tt.want {
				t.Errorf("describe(%q) = %q, want %q", tt.number, got, tt.want)
			}
		})
	}
}

func TestGet(t *testing.T) {
	t.Parallel()
	if got := Get(); got.Version == "" || got.Go == "" || got.Platform == "" {
		t.Errorf("Get() = %+v, want version, go and platform", got)
	}
}
