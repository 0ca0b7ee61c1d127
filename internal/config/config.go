// Package config turns the command line, the environment and a YAML file into
// the validated settings of umbrad.
//
// Every setting has one name. It is the flag --NAME, the environment variable
// UMBRA_NAME (capitals, _ for -) and the key NAME of the file. A flag wins over
// the environment, the environment over the file, and the file over the
// default. An unknown flag or key, a key that is given twice and a value that
// cannot be used are errors, and all of them are reported at once. Only unknown
// variables are not, as others choose them too: see [UnknownEnv].
package config

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/things"
)

// Off is the address of a listener that is not wanted.
const Off = "off"

// Config is what umbrad needs to know. The settings table says what each field means.
type Config struct {
	MQTT           string // address, or Off
	HTTP           string // address, or Off
	MQTTS          string // address, or Off
	HTTPS          string // address, or Off
	Listeners      []Listener
	TLS            TLS // for all listeners that do not have their own
	Auth           []string
	Users          string // file of credentials
	SecretsKey     string // file; never empty after Load
	PasswordChecks int
	Logins         Logins
	Skew           time.Duration
	JWT            JWT
	Webhook        Webhook
	Proxies        []netip.Prefix
	Handshake      time.Duration
	HandshakeBytes int
	StrangerBytes  int
	Connections    int // of all listeners; 0 is what the open files allow
	PerAddress     int
	AllowAnonymous bool
	Origins        []string // patterns of sites that may use WebSocket
	Hosts          []string // patterns of names that requests without authentication may be for
	Dashboard      bool
	Authz          Authz

	Data          string
	Store         string // never empty after Load
	StoreWait     time.Duration
	History       History
	CacheBytes    int64
	CommitTimeout time.Duration
	TombstoneAge  time.Duration
	Redis         Redis

	Profile        string
	Shadow         shadow.Limits
	Broker         broker.Limits
	AWSStrict      bool
	Presence       bool
	Quota          things.Quota
	NamedShadows   int // 0 is no limit
	RequestTimeout time.Duration
	IdleTimeout    time.Duration // of connections of HTTP
	HeaderBytes    int           // of a request of HTTP

	Mappings     []string // names and paths
	NativeTopics string   // on or off
	KeepRetained bool

	LogLevel  slog.Level
	LogFormat string
}

// JWT says which tokens of another issuer count.
type JWT struct {
	Keys       string // file or URL, "" for none
	Interval   time.Duration
	Issuer     string
	Audience   string
	Algorithms []string
	NameClaim  string
	GroupClaim string
	Bytes      int // of a token
}

// Logins bounds checks of passwords, and questions to the webhook: each of the two for itself.
type Logins struct {
	Waiting    int
	Address    int // of one address, those that wait and those that do not
	Remembered int
}

// Webhook is a custom authenticator.
type Webhook struct {
	URL      string // "" for none
	Timeout  time.Duration
	Remember time.Duration
	Requests int // at a time
}

// Authz is the settings of authorization.
type Authz struct {
	Policies     string // folder, "" for none
	Default      string // names of policies, with commas between them
	Region       string
	Account      string
	AuditFile    string // "" for none, "-" for stdout
	AuditBytes   int64
	AuditShadows string // "desired", "all" or "off"
}

// History says how much of the past a shadow keeps.
type History struct {
	Versions int
	Age      time.Duration
}

// Redis holds the settings of a Redis store that are not in its URL.
type Redis struct {
	Node          string
	Prefix        string
	AllowEviction bool
	LoadWait      time.Duration
}

// Command is a parsed command line.
type Command struct {
	Config

	Check   bool // validate and exit
	Version bool // print the version and exit

	shownSecrets []string // warnings of passwords that others see
}

// Load reads the settings from args (without the program name), the environment and the file that
// one of them names. The error joins everything that is wrong; it is [flag.ErrHelp] when help is wanted.
func Load(args []string, lookupEnv func(string) (string, bool)) (*Command, error) {
	cmd := &Command{}
	table := cmd.settings()
	flags, file, err := parseFlags(cmd, table, args)
	if err != nil {
		return nil, err
	}
	if cmd.Version {
		return cmd, nil
	}
	if file == "" {
		file, _ = lookupEnv("UMBRA_CONFIG")
	}
	inFile := map[string]given{}
	origins := map[string]string{}
	var errs []error
	if file != "" {
		inFile, err = readFile(file, table)
		errs = append(errs, err)
	}
	for _, s := range table {
		g, ok := choose(s.Name, flags, lookupEnv, inFile)
		if !ok {
			g = given{origin: s.Name, value: s.defaultOf(cmd.Profile)}
		}
		origins[s.Name] = g.origin
		if err := s.value.Set(g.value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", g.origin, err))
		}
		_, onCommandLine := flags[s.Name]
		if w := shownSecret(s.Name, g, onCommandLine, file); w != "" {
			cmd.shownSecrets = append(cmd.shownSecrets, w)
		}
	}
	cmd.complete()
	if err := errors.Join(append(errs, cmd.validate(origins))...); err != nil {
		return nil, err
	}
	return cmd, nil
}

// given is a value that somebody chose, and where.
type given struct {
	origin string // "--mqtt", "UMBRA_MQTT", "umbrad.yaml:3: mqtt" or, for a default, "mqtt"
	value  string
}

func choose(name string, flags map[string]given, lookupEnv func(string) (string, bool), file map[string]given) (given, bool) {
	if g, ok := flags[name]; ok {
		return g, true
	}
	if v, ok := lookupEnv(envName(name)); ok {
		return given{envName(name), v}, true
	}
	g, ok := file[name]
	return g, ok
}

// UnknownEnv returns the sorted names in environ, which is like [os.Environ], that look like those of settings but
// are not, nor names that umbrad or umbra otherwise know. Each is a typing error, or somebody else's.
func UnknownEnv(environ []string) []string {
	known := map[string]bool{"UMBRA_CONFIG": true}
	for _, name := range []string{
		"SERVER", "CONTEXT", "USER", "PASSWORD", "TOKEN", "ACCESS_KEY", "SECRET_KEY", "CA", "CERT", "KEY",
	} { // of umbra
		known["UMBRA_"+name] = true
	}
	for _, s := range Settings() {
		known[envName(s.Name)] = true
	}
	var unknown []string
	for _, v := range environ {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "UMBRA_") && !known[name] {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return unknown
}

func envName(name string) string {
	return "UMBRA_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

func parseFlags(cmd *Command, table []Setting, args []string) (flags map[string]given, file string, err error) {
	fs := flag.NewFlagSet("umbrad", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&file, "config", "", "")
	fs.BoolVar(&cmd.Check, "check", false, "")
	fs.BoolVar(&cmd.Version, "version", false, "")
	flags = map[string]given{}
	for _, s := range table {
		note := func(v string) error {
			flags[s.Name] = given{"--" + s.Name, v}
			return nil
		}
		if s.isBool() {
			fs.BoolFunc(s.Name, "", note)
		} else {
			fs.Func(s.Name, "", note)
		}
	}
	if err := fs.Parse(args); err != nil {
		return nil, "", flagError(err)
	}
	if fs.NArg() > 0 {
		return nil, "", fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	return flags, file, nil
}

var oneDash = regexp.MustCompile(`(: | for )-([a-z])`)

// flagError writes names of flags with two dashes, as the manual does.
func flagError(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	return errors.New(oneDash.ReplaceAllString(err.Error(), "$1--$2"))
}

// complete fills in what follows from other settings, and writes values that have several forms in one.
func (c *Config) complete() {
	for _, addr := range []*string{&c.MQTT, &c.HTTP, &c.MQTTS, &c.HTTPS} {
		if *addr == "" {
			*addr = Off
		}
		*addr = withHost(*addr)
	}
	if c.SecretsKey == "" {
		c.SecretsKey = filepath.Join(c.Data, "secrets.key")
	}
	if c.Store == "memory" {
		c.Store = "memory:"
	}
	if c.Store == "" && c.Data != "" {
		c.Store = "pebble:" + c.Data
		if !filepath.IsAbs(c.Data) && !strings.HasPrefix(c.Data, ".") {
			c.Store = "pebble:./" + c.Data
		}
	}
}
