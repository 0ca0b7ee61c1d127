package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/umbra-iot/umbra/internal/gate"
	"github.com/umbra-iot/umbra/internal/tlsfiles"
)

// longSkew is more than any clock should be off.
const longSkew = 15 * time.Minute

// Warnings tells of settings that are allowed but weak, and what to do. It looks at files, and opens no connection.
func (c *Command) Warnings() []string {
	list := slices.Concat(c.shownSecrets, c.networkWarnings(), c.publicWarnings(), c.fileWarnings())
	for _, l := range c.All() {
		list = append(list, c.listenerWarnings(&l)...)
	}
	slices.Sort(list)
	return slices.Compact(list) // listeners may share a file
}

// listenerWarnings tells what is weak about a listener.
func (c *Config) listenerWarnings(l *Listener) (list []string) {
	warn := func(format string, args ...any) { list = append(list, l.Name()+": "+fmt.Sprintf(format, args...)) }
	if !l.IsPublic() {
		if len(l.Proxies) > 0 && l.IsAnonymous() && !c.Authenticates() {
			warn("whoever its proxies pass on may read and change everything: configure authentication")
		}
		return list
	}
	switch {
	case !l.IsAnonymous():
	case c.Authenticates():
		warn("anybody who reaches this address is let in, for what policies allow anonymous (allow-anonymous)")
	default:
		warn("anybody who reaches this address may read and change everything (allow-anonymous): configure authentication")
	}
	switch {
	case l.Kind.IsTLS():
	case slices.ContainsFunc(l.Auth, sendsSecret):
		warn("passwords and tokens cross the network in clear text: use %s", encrypted(l.Kind))
	case slices.Contains(l.Auth, AuthKey):
		warn("what signed requests say crosses the network in clear text, and who hears one may send it again: use %s", encrypted(l.Kind))
	}
	if i := slices.IndexFunc(l.Proxies, isWide); i >= 0 {
		warn("whoever is in %s may say that he comes from any other address (proxy-from): name your proxies", l.Proxies[i])
	}
	return list
}

// networkWarnings tells what others can hear, or take part in.
func (c *Config) networkWarnings() (list []string) {
	for name, target := range map[string]string{"webhook-url": c.Webhook.URL, "jwt-keys": c.JWT.Keys} {
		if u, err := url.Parse(target); err == nil && u.Scheme == "http" && !isLoopback(u.Hostname()) {
			list = append(list, name+": what decides who gets in crosses the network in clear text: use https")
		}
	}
	if u, err := url.Parse(c.Store); err == nil && !isLoopback(u.Hostname()) {
		switch skip := u.Query().Get("skip_verify"); {
		case u.Scheme == "redis":
			list = append(list, "store: all that is kept, and the password of Redis, crosses the network in clear text: use rediss")
		case u.Scheme == "rediss" && skip != "" && skip != "0" && skip != "false":
			list = append(list, "store: whoever is between umbrad and Redis may take its place (skip_verify): leave that out")
		}
	}
	if slices.ContainsFunc(c.Origins, isEverySite) {
		list = append(list, "websocket-origins: pages of every site may connect with what the browsers of their visitors can reach: name your sites")
	}
	if slices.Contains(c.Hosts, "*") && slices.ContainsFunc(c.All(), Listener.ChecksHosts) {
		list = append(list, "hosts: pages of every site may do everything, once its name leads to this machine (DNS rebinding): name your hosts")
	}
	signed := func(l Listener) bool { return l.IsPublic() && slices.Contains(l.Auth, AuthKey) }
	if c.Skew > longSkew && slices.ContainsFunc(c.All(), signed) {
		list = append(list, fmt.Sprintf("signature-skew: who hears a signed request may send it again for %v: 5m is what AWS allows", c.Skew))
	}
	return list
}

// publicWarnings tells what is missing where anybody on the network can log in.
func (c *Config) publicWarnings() (list []string) {
	var public, irrevocable bool
	for _, l := range c.All() {
		if !l.IsPublic() || len(l.Auth) == 0 {
			continue
		}
		public = true
		irrevocable = irrevocable || l.TLS.ClientCert != tlsfiles.None && l.TLS.ClientCA != "" && l.TLS.CRL == "" && slices.Contains(l.Auth, AuthCertificate)
	}
	if public && c.Logins.Address >= c.loginPlaces() {
		list = append(list, "address-logins: one address may take all places for logins, and so keep others out: set less than waiting-logins")
	}
	if public && c.Authz.AuditFile == "" {
		list = append(list, "audit-file: the records of changes, denials and failed logins end with the process: name a file, or - for the standard output")
	}
	if irrevocable {
		list = append(list, "tls-crl: certificates that are revoked let their holders in: name the revocation list of tls-client-ca")
	}
	return list
}

// loginPlaces is how many passwords there may be that are checked or wait, or questions to the webhook if those are fewer.
func (c *Config) loginPlaces() int {
	parallel := c.PasswordChecks
	if c.Webhook.URL != "" {
		parallel = min(parallel, c.Webhook.Requests)
	}
	return c.Logins.Waiting + parallel
}

// isWide reports whether a network is none of one's own: the largest of those are 10.0.0.0/8 and fc00::/7.
func isWide(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return p.Bits() < 8
	}
	return p.Bits() < 7
}

// isEverySite reports whether a pattern of origins is for every host.
func isEverySite(pattern string) bool {
	if _, host, ok := strings.Cut(pattern, "://"); ok {
		pattern = host
	}
	return strings.Trim(pattern, "*?.:") == ""
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
