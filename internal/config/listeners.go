package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/umbra-iot/umbra/broker"
	"github.com/umbra-iot/umbra/internal/gate"
	"github.com/umbra-iot/umbra/internal/tlsfiles"
)

// Listener is one address that umbrad listens at.
type Listener struct {
	Kind    gate.Kind
	Address string
	Auth    []string // methods of authentication; after Load never nil
	TLS     TLS
	Proxies []netip.Prefix // that send a PROXY header
	// Connections at a time and Rate of new ones per second, 0 for no bound.
	Connections, Rate int
	Limits            broker.Limits // of its connections; complete in what All returns

	own    []ownSetting // that it has instead of those of all listeners
	origin string       // where it was set, for errors
	number int          // from 2 on, among those that have the same address: the system chooses their ports
}

// ownSetting is a setting of all listeners that one has its own of.
type ownSetting struct{ name, value string }

// HasOwnLimits reports whether Limits differ from those of other listeners.
func (l Listener) HasOwnLimits() bool { return len(l.own) > 0 }

// Name tells the listener from others, in the log.
func (l Listener) Name() string {
	name := string(l.Kind) + "://" + l.Address
	if l.number > 1 {
		name += "#" + strconv.Itoa(l.number)
	}
	return name
}

// IsPublic reports whether it can be reached from other machines.
func (l Listener) IsPublic() bool {
	host, _, err := net.SplitHostPort(l.Address)
	return err == nil && !isLoopback(host)
}

// IsAnonymous reports whether whoever reaches it is let in.
func (l Listener) IsAnonymous() bool {
	return len(l.Auth) == 0 || slices.Contains(l.Auth, AuthAnonymous)
}

// ChecksHosts reports whether its HTTP requests have to be for a host that [Config.Hosts] allows: pages of browsers on this
// machine can be led to it, and nobody is asked who he is.
func (l Listener) ChecksHosts() bool {
	return l.Kind != gate.MQTT && l.Kind != gate.MQTTS && !l.IsPublic() && l.IsAnonymous()
}

// TLS holds the files of a listener with TLS.
type TLS struct {
	Cert       string
	Key        string
	ClientCA   string
	ClientCert tlsfiles.ClientCert // "" is required with a ClientCA, else none
	CRL        string
	MinVersion string
	Identity   string
}

// Methods of authentication.
const (
	AuthAnonymous   = "anonymous"   // who shows nothing is let in, as nobody
	AuthCertificate = "certificate" // X.509 client certificate
	AuthPassword    = "password"    // of a user
	AuthKey         = "key"         // AWS Signature Version 4
	AuthToken       = "token"       // bearer token of Umbra
	AuthJWT         = "jwt"
	AuthWebhook     = "webhook"
)

func authMethods() []string {
	return []string{AuthAnonymous, AuthCertificate, AuthPassword, AuthKey, AuthToken, AuthJWT, AuthWebhook}
}

func kinds() []gate.Kind {
	return []gate.Kind{gate.MQTT, gate.MQTTS, gate.WS, gate.WSS, gate.HTTP, gate.HTTPS}
}

// All returns all listeners, those of the simple settings first. What a listener leaves open
// comes from the settings for all of them.
func (c *Config) All() []Listener {
	var all []Listener
	for _, simple := range []struct {
		kind gate.Kind
		addr string
	}{{gate.MQTT, c.MQTT}, {gate.HTTP, c.HTTP}, {gate.MQTTS, c.MQTTS}, {gate.HTTPS, c.HTTPS}} {
		if simple.addr != Off {
			all = append(all, Listener{Kind: simple.kind, Address: simple.addr, origin: string(simple.kind)})
		}
	}
	for _, l := range c.Listeners {
		l.Address = withHost(l.Address)
		all = append(all, l)
	}
	count := map[string]int{}
	for i := range all {
		l := &all[i]
		count[l.Name()]++
		l.number = count[l.Name()]
		l.complete(c)
	}
	return all
}

func (l *Listener) complete(c *Config) {
	if l.Kind.IsTLS() {
		t, from := &l.TLS, &c.TLS
		for _, f := range []struct {
			p    *string
			from string
		}{
			{&t.Cert, from.Cert},
			{&t.Key, from.Key},
			{&t.ClientCA, from.ClientCA},
			{&t.CRL, from.CRL},
			{&t.MinVersion, from.MinVersion},
			{&t.Identity, from.Identity},
			{(*string)(&t.ClientCert), string(from.ClientCert)},
		} {
			if *f.p == "" {
				*f.p = f.from
			}
		}
		switch {
		case t.ClientCert != "":
		case t.ClientCA == "":
			t.ClientCert = tlsfiles.None
		case l.Kind == gate.MQTTS:
			t.ClientCert = tlsfiles.Required
		default: // browsers, and clients that sign or have a token
			t.ClientCert = tlsfiles.Optional
		}
	}
	if l.Auth == nil {
		l.Auth = c.methods()
	}
	if l.Proxies == nil {
		l.Proxies = c.Proxies
	}
	own := *c
	for _, s := range l.own {
		_ = ownValue(&own, s.name).Set(s.value) // was checked when it was parsed
	}
	l.Limits = own.Broker
}

// ownValue returns the value in c of a setting that each listener may have its own of, nil when there is none of that name.
func ownValue(c *Config, name string) value {
	for _, s := range c.settings() {
		if s.Name == name && s.Listener {
			return s.value
		}
	}
	return nil
}

// methods are those that the settings configure, nil for none. Where somebody has to prove who he is,
// the credentials of the store count too.
func (c *Config) methods() []string {
	if len(c.Auth) > 0 {
		return c.Auth
	}
	var list []string
	for method, on := range map[string]bool{
		AuthCertificate: c.TLS.ClientCA != "", AuthPassword: c.Users != "", AuthJWT: c.JWT.Keys != "", AuthWebhook: c.Webhook.URL != "",
	} {
		if on {
			list = append(list, method)
		}
	}
	if list == nil {
		return nil
	}
	list = append(list, AuthPassword, AuthKey, AuthToken)
	slices.Sort(list)
	return slices.Compact(list)
}

// validateListeners checks what a single setting cannot tell.
func (c *Config) validateListeners(origins map[string]string) error {
	var errs []error
	for _, simple := range [][2]string{{"mqtt", c.MQTT}, {"http", c.HTTP}, {"mqtts", c.MQTTS}, {"https", c.HTTPS}} {
		errs = append(errs, validateAddress(origins[simple[0]], simple[1]))
	}
	all := c.All()
	if len(all) == 0 {
		errs = append(errs, errors.New("mqtt and http are both off: nothing to serve"))
	}
	for _, l := range all {
		origin := l.origin
		if simple, ok := origins[origin]; ok {
			origin = simple
		}
		if err := l.validate(c.AllowAnonymous); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", origin, err))
		}
	}
	return errors.Join(errs...)
}

func (l Listener) validate(allowAnonymous bool) error {
	if l.IsPublic() && l.IsAnonymous() && !allowAnonymous {
		return fmt.Errorf("%q is not a loopback address, and whoever reaches it could do everything; "+
			"listen on 127.0.0.1, configure authentication, or set allow-anonymous if that is what you want", l.Address)
	}
	if !l.Kind.IsTLS() {
		if slices.Equal(l.Auth, []string{AuthCertificate}) && l.IsPublic() {
			return errors.New("certificates need TLS: nobody could get in")
		}
		return nil
	}
	switch {
	case l.TLS.Cert == "" || l.TLS.Key == "":
		return errors.New("TLS needs tls-cert and tls-key")
	case l.TLS.ClientCert != tlsfiles.None && l.TLS.ClientCA == "":
		return errors.New("client certificates need tls-client-ca")
	}
	return nil
}

func validateAddress(origin, addr string) error {
	if addr == Off {
		return nil
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s: %q is not an address such as 127.0.0.1:1883", origin, addr)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%s: %q has no port from 0 to 65535", origin, addr)
	}
	return nil
}

// withHost is addr with a host: without one it is loopback.
func withHost(addr string) string {
	if strings.HasPrefix(addr, ":") {
		return "127.0.0.1" + addr
	}
	return addr
}

// listeners is a list of URLs with spaces between them, such as
// mqtts://0.0.0.0:8883?auth=certificate&client-ca=ca.pem.
type listeners struct{ p *[]Listener }

func (v listeners) Set(s string) error {
	*v.p = nil
	var errs []error
	for text := range strings.FieldsSeq(s) {
		l, err := parseListener(text)
		errs = append(errs, err)
		*v.p = append(*v.p, l)
	}
	return errors.Join(errs...)
}

func parseListener(text string) (Listener, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || !slices.Contains(kinds(), gate.Kind(u.Scheme)) || u.Path != "" || u.User != nil {
		return Listener{}, fmt.Errorf("%q is not a listener such as mqtts://0.0.0.0:8883?auth=certificate", text)
	}
	name := u.Scheme + "://" + u.Host
	l := Listener{Kind: gate.Kind(u.Scheme), Address: u.Host, origin: "listeners: " + name}
	if err := validateAddress(name, withHost(u.Host)); err != nil {
		return l, err
	}
	query, err := url.ParseQuery(u.RawQuery)
	errs := []error{err}
	for _, option := range slices.Sorted(maps.Keys(query)) {
		errs = append(errs, l.set(option, query[option]))
	}
	for i, err := range errs {
		if err != nil {
			errs[i] = fmt.Errorf("%s: %w", name, err)
		}
	}
	return l, errors.Join(errs...)
}

// set sets an option, or a setting that the listener has its own of.
func (l *Listener) set(option string, values []string) error {
	if len(values) > 1 {
		return fmt.Errorf("option %q is given twice", option)
	}
	v, ok := l.options()[option]
	if !ok {
		v = ownValue(&Config{}, option)
	}
	if v == nil {
		return fmt.Errorf("unknown option %q", option)
	}
	if err := v.Set(values[0]); err != nil {
		return fmt.Errorf("%s: %w", option, err)
	}
	if !ok {
		l.own = append(l.own, ownSetting{option, values[0]})
	}
	return nil
}

// options are what a listener may have beside kind and address.
func (l *Listener) options() map[string]value {
	return map[string]value{
		"auth":            words{&l.Auth, authMethods()},
		"cert":            text{&l.TLS.Cert},
		"key":             text{&l.TLS.Key},
		"client-ca":       text{&l.TLS.ClientCA},
		"client-cert":     choice{(*string)(&l.TLS.ClientCert), clientCerts()},
		"crl":             text{&l.TLS.CRL},
		"min-version":     choice{&l.TLS.MinVersion, tlsVersions()},
		"identity":        choice{&l.TLS.Identity, identities()},
		"proxy-from":      prefixes{&l.Proxies},
		"max-connections": integer[int]{&l.Connections, 0, 1 << 30},
		"connect-rate":    integer[int]{&l.Rate, 0, 1 << 20},
	}
}

func clientCerts() []string { return []string{"", "none", "optional", "required"} }
func tlsVersions() []string { return []string{"1.2", "1.3"} }
func identities() []string  { return []string{"cn", "uri", "id"} }

// listenersText writes the list of a YAML file as the setting takes it: each element is a URL, or a mapping with
// "listen" and the options.
func listenersText(n *yaml.Node) (string, error) {
	var all []string
	for _, e := range n.Content {
		switch e.Kind {
		case yaml.ScalarNode:
			all = append(all, e.Value)
		case yaml.MappingNode:
			s, err := listenerText(e)
			if err != nil {
				return "", err
			}
			all = append(all, s)
		default:
			return "", errors.New("a listener is a URL or a mapping")
		}
	}
	return strings.Join(all, " "), nil
}

func listenerText(n *yaml.Node) (string, error) {
	query, listen := url.Values{}, ""
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i].Value, n.Content[i+1]
		s := value.Value
		if value.Kind == yaml.SequenceNode {
			var list []string
			for _, e := range value.Content {
				list = append(list, e.Value)
			}
			s = strings.Join(list, ",")
		}
		if key == "listen" {
			listen = s
		} else {
			query.Add(key, s)
		}
	}
	if listen == "" || strings.ContainsAny(listen, " ?") {
		return "", errors.New("a listener needs listen: such as mqtts://0.0.0.0:8883")
	}
	return listen + "?" + query.Encode(), nil
}

// words is a list with commas between its elements, each of which is one of all.
type words struct {
	p   *[]string
	all []string
}

func (v words) Set(s string) error {
	*v.p = nil
	if s == "" {
		return nil
	}
	for w := range strings.SplitSeq(s, ",") {
		if !slices.Contains(v.all, w) {
			return fmt.Errorf("%q is not one of %s", w, strings.Join(v.all, ", "))
		}
		*v.p = append(*v.p, w)
	}
	return nil
}

// prefixes is a list of networks and addresses with commas between them.
type prefixes struct{ p *[]netip.Prefix }

func (v prefixes) Set(s string) error {
	*v.p = nil
	if s == "" {
		return nil
	}
	for w := range strings.SplitSeq(s, ",") {
		p, err := netip.ParsePrefix(w)
		if err != nil {
			addr, addrErr := netip.ParseAddr(w)
			if addrErr != nil {
				return fmt.Errorf("%q is neither an address nor a network such as 10.0.0.0/8", w)
			}
			p = netip.PrefixFrom(addr, addr.BitLen())
		}
		*v.p = append(*v.p, p.Masked())
	}
	return nil
}

// origins is a list of patterns of hosts, each perhaps with its scheme, with commas between them.
type origins struct{ p *[]string }

func (v origins) Set(s string) error {
	*v.p = nil
	if s == "" {
		return nil
	}
	for w := range strings.SplitSeq(s, ",") {
		_, host, found := strings.Cut(w, "://")
		if !found {
			host = w
		}
		if _, err := path.Match(w, ""); err != nil || host == "" || strings.ContainsAny(host, "/ ") {
			return fmt.Errorf("%q is no origin such as https://app.example or *.example", w)
		}
		*v.p = append(*v.p, w)
	}
	return nil
}

// hosts is a list of patterns of names with commas between them.
type hosts struct{ p *[]string }

func (v hosts) Set(s string) error {
	*v.p = nil
	if s == "" {
		return nil
	}
	for w := range strings.SplitSeq(s, ",") {
		if w == "" || strings.ContainsAny(w, `/:[]\ `) {
			return fmt.Errorf("%q is no name of a host such as umbra.example or *.example", w)
		}
		*v.p = append(*v.p, w)
	}
	return nil
}
