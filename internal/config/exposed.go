package config

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// What everybody on a machine may do, as bits of the mode of a file.
const (
	everybodyReads  = 0o004
	everybodyWrites = 0o002
	everybodyEnters = 0o001 // of a directory: the files in it can be opened by their names
)

// manyAuthorities are more than those of the devices of an operator.
const manyAuthorities = 20

// fileWarnings tells of files that others may read or change.
func (c *Config) fileWarnings() (list []string) {
	warn := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	secrets := map[string][]string{"secrets-key": {c.SecretsKey}, "users": {c.Users}}
	deciding := map[string][]string{"jwt-keys": {c.JWT.Keys}, "policies": append(filesOf(c.Authz.Policies), c.Authz.Policies)}
	for _, l := range c.All() {
		if l.Kind.IsTLS() {
			secrets["tls-key"] = append(secrets["tls-key"], l.TLS.Key)
			deciding["tls-client-ca"] = append(deciding["tls-client-ca"], l.TLS.ClientCA)
			deciding["tls-crl"] = append(deciding["tls-crl"], l.TLS.CRL)
		}
	}
	list = append(list, exposed(secrets, everybodyReads, "%s: everybody on this machine may read %s: chmod o=")...)
	list = append(list, exposed(deciding, everybodyWrites, "%s: everybody on this machine may change %s, and so who may do what: chmod o-w")...)
	for _, file := range deciding["tls-client-ca"] {
		if n := authorities(file); n > manyAuthorities {
			warn("tls-client-ca: %s has %d authorities, and whoever has a certificate of one of them gets in: name those of your devices", file, n)
		}
	}
	for _, dir := range c.dataDirectories() {
		if everybodyMay(dir, everybodyEnters) && someFile(dir, everybodyReads) {
			warn("data: everybody on this machine may read what is kept in %s: chmod 700", dir)
		}
	}
	return list
}

// exposed tells, by a format for a setting and a file, of the files of settings with which everybody may do something.
func exposed(files map[string][]string, bits os.FileMode, format string) (list []string) {
	for setting, names := range files {
		for _, name := range names {
			if everybodyMay(name, bits) {
				list = append(list, fmt.Sprintf(format, setting, name))
			}
		}
	}
	return list
}

// dataDirectories are those of the data and of the store.
func (c *Config) dataDirectories() []string {
	list := []string{c.Data}
	if dir, ok := strings.CutPrefix(c.Store, "pebble:"); ok {
		list = append(list, filepath.Clean(dir))
	}
	return list
}

// everybodyMay reports whether everybody on this machine may do something with a file: its mode says so, and all
// directories above it let him in. Nobody may with one that is not there. A group may have files of its own.
func everybodyMay(name string, bits os.FileMode) bool {
	path, err := filepath.Abs(name)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if name == "" || err != nil {
		return false
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&bits == 0 || bits == everybodyWrites && isReadOnly(path) {
		return false
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&everybodyEnters == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

// filesOf returns the files of a directory, with their paths; none when it cannot be read.
func filesOf(dir string) []string {
	if dir == "" {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	list := make([]string, len(entries))
	for i, e := range entries {
		list[i] = filepath.Join(dir, e.Name())
	}
	return list
}

// someFile reports whether there is a file in a directory whose mode has one of some bits.
func someFile(dir string, bits os.FileMode) bool {
	for _, file := range filesOf(dir) {
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&bits != 0 {
			return true
		}
	}
	return false
}

// authorities is how many certificates are in a file.
func authorities(file string) int {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	return bytes.Count(text, []byte("-----BEGIN CERTIFICATE-----"))
}

// hasPassword reports whether a URL has a password in it.
func hasPassword(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return false
	}
	_, ok := u.User.Password()
	for name := range u.Query() {
		ok = ok || strings.Contains(name, "password")
	}
	return ok
}

// shownSecret tells of a password in a setting where others see it: on the command line, which is in the list of
// processes, or in a file that everybody may read. "" when they do not.
func shownSecret(name string, g given, onCommandLine bool, file string) string {
	switch {
	case !hasPassword(g.value):
		return ""
	case onCommandLine:
		return fmt.Sprintf("%s: everybody on this machine sees its password in the list of processes: use %s", name, envName(name))
	case strings.HasPrefix(g.origin, file+":") && everybodyMay(file, everybodyReads):
		return fmt.Sprintf("%s: everybody on this machine may read its password in %s: use %s, or chmod 600", name, file, envName(name))
	}
	return ""
}
