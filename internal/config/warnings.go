package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/umbra-iot/umbra/internal/auth/credential"
	"github.com/umbra-iot/umbra/internal/gate"
)

// Warnings tells of settings that are allowed but weak.
func (c *Config) Warnings() []string {
	var list []string
	for _, l := range c.All() {
		list = append(list, l.warnings()...)
	}
	for name, target := range map[string]string{"webhook-url": c.Webhook.URL, "jwt-keys": c.JWT.Keys} {
		if u, err := url.Parse(target); err == nil && u.Scheme == "http" && !isLoopback(u.Hostname()) {
			list = append(list, name+": what decides who gets in crosses the network in clear text: use https")
		}
	}
	if slices.Contains(c.Origins, "*") {
		list = append(list, "websocket-origins: pages of every site may connect with what the browsers of their visitors can reach")
	}
	if slices.Contains(c.Hosts, "*") && slices.ContainsFunc(c.All(), Listener.ChecksHosts) {
		list = append(list, "hosts: pages of every site may do everything, once its name leads to this machine (DNS rebinding)")
	}
	if c.Users != "" && credential.IsExposed(c.Users) {
		list = append(list, "users: others than its owner may read "+c.Users+": chmod 600")
	}
	if slices.Contains(strings.Split(c.Authz.Default, ","), "admin") {
		list = append(list, "default-policies: everybody who logs in and has no policy may do everything (admin)")
	}
	slices.Sort(list)
	return slices.Compact(list) // listeners may share a file
}

// warnings tells what is weak about a listener.
func (l *Listener) warnings() (list []string) {
	if l.Kind.IsTLS() && isReadable(l.TLS.Key) {
		list = append(list, "tls-key: everybody on this machine may read "+l.TLS.Key+": chmod 600")
	}
	if !l.IsPublic() {
		return list
	}
	if l.IsAnonymous() {
		list = append(list, l.Name()+": anybody who reaches this address may read and change everything (allow-anonymous)")
	}
	if !l.Kind.IsTLS() && slices.ContainsFunc(l.Auth, sendsSecret) {
		list = append(list, fmt.Sprintf("%s: passwords and tokens cross the network in clear text: use %s", l.Name(), encrypted(l.Kind)))
	}
	if slices.ContainsFunc(l.Proxies, func(p netip.Prefix) bool { return p.Bits() == 0 }) {
		list = append(list, l.Name()+": whoever reaches this address may say that he comes from any other one (proxy-from has all addresses)")
	}
	return list
}

// isReadable reports whether everybody on this machine may read a file. A group may have keys of its own.
func isReadable(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().Perm()&0o004 != 0
}

// sendsSecret reports whether a method shows the secret itself.
func sendsSecret(method string) bool {
	switch method {
	case AuthPassword, AuthToken, AuthJWT, AuthWebhook:
		return true
	}
	return false
}

func encrypted(k gate.Kind) gate.Kind {
	switch k {
	case gate.MQTT:
		return gate.MQTTS
	case gate.WS:
		return gate.WSS
	default:
		return gate.HTTPS
	}
}
