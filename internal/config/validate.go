package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/umbra-iot/umbra/internal/gate"
)

// validate checks what a single value cannot tell. origins says where each setting comes from.
func (c *Config) validate(origins map[string]string) error {
	errs := []error{c.validateListeners(origins)}
	if err := c.validateStore(); err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", origins["store"], err))
	}
	errs = append(errs, c.validateAuth(), c.validateStrangers(origins))
	if c.Shadow.PayloadBytes > c.Broker.PayloadBytes {
		errs = append(errs, fmt.Errorf("%s (%d) is above payload-bytes (%d)", origins["request-bytes"], c.Shadow.PayloadBytes, c.Broker.PayloadBytes))
	}
	return errors.Join(errs...)
}

// validateStrangers finds bounds of what a stranger may send that leave no room for it.
func (c *Config) validateStrangers(origins map[string]string) error {
	var errs []error
	for name, bytes := range map[string]int{"http-header-bytes": c.HeaderBytes, "tls-handshake-bytes": c.HandshakeBytes} {
		if need := gate.Need(bytes); need > c.StrangerBytes {
			errs = append(errs, fmt.Errorf("%s (%d) takes %d of stranger-bytes (%d)", origins[name], bytes, need, c.StrangerBytes))
		}
	}
	return errors.Join(errs...)
}

// validateAuth finds methods that cannot work.
func (c *Config) validateAuth() error {
	var errs []error
	if c.JWT.Keys != "" && (c.JWT.Issuer == "" || c.JWT.Audience == "") {
		errs = append(errs, errors.New("jwt-keys: jwt-issuer and jwt-audience are needed too"))
	}
	if c.Webhook.URL != "" {
		if u, err := url.Parse(c.Webhook.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			errs = append(errs, errors.New("webhook-url: not a URL such as https://127.0.0.1:9000/auth"))
		}
	}
	for _, l := range c.All() {
		if slices.Contains(l.Auth, AuthJWT) && c.JWT.Keys == "" {
			errs = append(errs, fmt.Errorf("%s: method jwt needs jwt-keys", l.Name()))
		}
		if slices.Contains(l.Auth, AuthWebhook) && c.Webhook.URL == "" {
			errs = append(errs, fmt.Errorf("%s: method webhook needs webhook-url", l.Name()))
		}
	}
	return errors.Join(errs...)
}

// Public reports whether a listener can be reached from other machines.
func (c *Config) Public() bool { return slices.ContainsFunc(c.All(), Listener.IsPublic) }

// Authenticates reports whether a listener wants to know who somebody is. Where there is one, policies say what everybody
// may do at all of them.
func (c *Config) Authenticates() bool {
	return slices.ContainsFunc(c.All(), func(l Listener) bool { return len(l.Auth) > 0 })
}

// Open reports whether everybody may do everything at a listener that can be reached from other machines.
func (c *Config) Open() bool {
	return !c.Authenticates() && slices.ContainsFunc(c.All(), func(l Listener) bool { return l.IsPublic() && l.IsAnonymous() })
}

// isLoopback looks nothing up: a name other than localhost may change its meaning at any time.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func (c *Config) validateStore() error {
	if c.Store == "" {
		return errors.New("data and store are both empty")
	}
	kind, rest, _ := strings.Cut(c.Store, ":")
	switch kind {
	case "memory":
		if rest != "" {
			return errors.New("memory: takes nothing after the colon")
		}
	case "pebble":
		if rest == "" {
			return errors.New("pebble: needs a directory")
		}
	case "redis", "rediss":
		if c.Data == "" && c.Redis.Node == "" {
			return errors.New("Redis needs a name of this node: data and redis-node are both empty")
		}
		u, err := url.Parse(c.Store)
		if err != nil || u.Host == "" {
			return fmt.Errorf("not a Redis URL such as %s://127.0.0.1:6379/0", kind) // the value may hold a password
		}
		if port := u.Port(); port != "" && !isPort(port) {
			return fmt.Errorf("%s is no port from 1 to 65535", port)
		}
	default:
		return errors.New("not a known kind (pebble:DIR, redis://…, rediss://…, memory)")
	}
	return nil
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// StoreName returns Store without secrets.
func (c *Config) StoreName() string {
	u, err := url.Parse(c.Store)
	if err != nil || u.Host == "" {
		return c.Store
	}
	query := u.Query()
	for name := range query {
		if strings.Contains(name, "password") {
			query.Set(name, "xxxxx")
		}
	}
	u.RawQuery = query.Encode()
	return u.Redacted()
}
