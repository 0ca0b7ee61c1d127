// Package dashboard is the web page of operators. It is files for the browser, which are the same for everybody and hold
// nothing of anybody: what it shows, and what it changes, goes over the HTTP API of package rest, as whoever has logged in
// on the page, so it can do nothing that its user cannot do with other programs. It loads nothing from elsewhere.
package dashboard

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

// Root is the path of the dashboard.
const Root = "/dashboard/"

//go:embed static
var static embed.FS

// file is one file of the dashboard.
type file struct {
	content []byte
	kind    string // its Content-Type
	tag     string // its entity tag
}

// policy lets the page use what comes from this server, and nothing else: text that got into it as HTML would be no
// script, could load nothing and could be sent nowhere. No other page can frame it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Handler returns the handler of all paths that begin with Root, of "/" and of Root without its end, which lead there.
// Browsers ask each time whether a file is still the same, so the page is that of the running server.
func Handler() http.Handler {
	files, err := load()
	if err != nil {
		panic(err) // part of the binary
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "Method not allowed", http.StatusMethodNotAllowed)
			return
		}
		if r.URL.Path == "/" || r.URL.Path+"/" == Root {
			http.Redirect(w, r, Root, http.StatusFound)
			return
		}
		f, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		h.Set("Content-Type", f.kind)
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", f.tag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
	})
}

// Serves reports whether a path is one for Handler.
func Serves(p string) bool { return p == "/" || p+"/" == Root || strings.HasPrefix(p, Root) }

// load returns the files by their paths.
func load() (map[string]file, error) {
	files := map[string]file{}
	err := fs.WalkDir(static, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := static.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		f := file{content: content, kind: kinds[path.Ext(name)], tag: `"` + hex.EncodeToString(sum[:8]) + `"`}
		if f.kind == "" {
			return fmt.Errorf("dashboard: no content type for %s", name)
		}
		files[Root+name[len("static/"):]] = f
		return nil
	})
	files[Root] = files[Root+"index.html"]
	return files, err
}

// kinds are the content types by extension. What package mime says depends on the machine.
var kinds = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}
