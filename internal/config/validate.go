package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// validate checks what a single value cannot tell. origins says where each setting comes from.
func (c *Config) validate(origins map[string]string) error {
	errs := []error{
		c.validateAddress(origins["mqtt"], c.MQTT),
		c.validateAddress(origins["http"], c.HTTP),
	}
	if err := c.validateStore(); err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", origins["store"], err))
	}
	if c.MQTT == Off && c.HTTP == Off {
		errs = append(errs, errors.New("mqtt and http are both off: nothing to serve"))
	}
	if c.Shadow.PayloadBytes > c.Broker.PayloadBytes {
		errs = append(errs, fmt.Errorf("%s (%d) is above payload-bytes (%d)", origins["request-bytes"], c.Shadow.PayloadBytes, c.Broker.PayloadBytes))
	}
	return errors.Join(errs...)
}

func (c *Config) validateAddress(origin, addr string) error {
	if addr == Off {
		return nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s: %q is not an address such as 127.0.0.1:1883", origin, addr)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%s: %q has no port from 0 to 65535", origin, addr)
	}
	if !c.AllowAnonymous && !isLoopback(host) {
		return fmt.Errorf("%s: %q is not a loopback address, and whoever reaches it could do everything; "+
			"listen on 127.0.0.1, or set allow-anonymous if that is what you want", origin, addr)
	}
	return nil
}

// Public reports whether a listener can be reached from other machines.
func (c *Config) Public() bool {
	for _, addr := range []string{c.MQTT, c.HTTP} {
		if host, _, err := net.SplitHostPort(addr); err == nil && !isLoopback(host) {
			return true
		}
	}
	return false
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
