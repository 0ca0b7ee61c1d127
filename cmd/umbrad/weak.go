package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/umbra-iot/umbra/internal/auth"
	"github.com/umbra-iot/umbra/internal/auth/authz"
	"github.com/umbra-iot/umbra/internal/config"
	"github.com/umbra-iot/umbra/internal/tlsfiles"
)

// weakFiles tells of files of TLS that are out of date.
func weakFiles(l config.Listener, files *tlsfiles.Config, now time.Time) (list []string) {
	if until := files.NotAfter(); !until.IsZero() && now.After(until) {
		list = append(list, fmt.Sprintf("tls-cert: %s has ended at %v, and clients are right to refuse it: renew it", l.TLS.Cert, until))
	}
	if until, stale := files.Stale(now); stale {
		list = append(list, fmt.Sprintf("tls-crl: %s should have been replaced at %v, and lacks what was revoked since: fetch the new one", l.TLS.CRL, until))
	}
	return list
}

// crowd is many principals who have nothing to do with each other.
type crowd struct {
	who   string
	by    string // the setting or file by which they have policies
	one   *auth.Principal
	least int // what is too much for them, as an index of excesses
}

// excesses are what crowds should not be able to do, the worst first.
var excesses = []struct {
	what  string
	needs []need // one of these
}{
	{"do everything", []need{
		{"umbra:Administer", "*"},
		{"umbra:PutPolicy", "policy/umbrad-check"},
		{"umbra:AttachPolicy", "policy/umbrad-check"},
		{"umbra:PutCredential", "credential/users/umbrad-check"},
	}},
	{"publish on all topics", []need{{"iot:Publish", "topic/umbrad/check"}}},
	{"change the shadows of all things", []need{
		{"iot:UpdateThingShadow", "thing/umbrad-check"}, {"iot:Publish", "topic/$aws/things/umbrad-check/shadow/update"},
	}},
	{"read everything", []need{{"iot:Subscribe", "topicfilter/#"}, {"iot:GetThingShadow", "thing/umbrad-check"}}},
}

// need is a permission.
type need struct{ action, resource string }

// weakPolicies tells of policies that are for more people than their authors may have meant.
func weakPolicies(cfg *config.Config, e *authz.Engine) (list []string) {
	if !cfg.Authenticates() {
		return nil // policies decide nothing
	}
	for _, c := range crowds(cfg, e) {
		for _, x := range excesses[:c.least+1] {
			if slices.ContainsFunc(x.needs, func(n need) bool { return may(e, c.one, n) }) {
				list = append(list, fmt.Sprintf("%s: %s may %s: choose a policy that allows less", c.by, c.who, x.what))
				break
			}
		}
	}
	return list
}

// crowds returns those who can get in by the settings.
func crowds(cfg *config.Config, e *authz.Engine) []crowd {
	counts := map[string]bool{}
	for _, l := range cfg.All() {
		if l.IsAnonymous() {
			counts[config.AuthAnonymous] = true
		}
		for _, m := range l.Auth {
			counts[m] = true
		}
	}
	const publishing = 1 // apps may change all shadows
	unknown := &auth.Principal{ID: "umbrad:check", Kind: "umbrad"}
	list := []crowd{{"everybody who logs in and has no policy", "default-policies", unknown, publishing}}
	if counts[config.AuthAnonymous] {
		list = append(list, crowd{"everybody who shows nothing", "policies, anonymous", auth.Nobody(), len(excesses) - 1})
	}
	for method, kind := range map[string]auth.Kind{
		config.AuthPassword: auth.User, config.AuthCertificate: auth.Certificate, config.AuthKey: auth.AccessKey,
		config.AuthToken: auth.Token, config.AuthJWT: auth.JWT, config.AuthWebhook: auth.Webhook,
	} {
		one := &auth.Principal{ID: auth.NewID(kind, "umbrad-check"), Kind: kind}
		if counts[method] && !slices.Equal(e.Names(one), e.Names(unknown)) {
			list = append(list, crowd{"everybody of the kind " + string(kind), "policies, kind:" + string(kind), one, publishing})
		}
	}
	slices.SortFunc(list, func(a, b crowd) int { return strings.Compare(a.by, b.by) })
	return list
}

// may reports whether somebody has a permission, over MQTT or HTTP.
func may(e *authz.Engine, p *auth.Principal, n need) bool {
	for _, l := range []auth.Link{{}, {MQTT: true, ClientID: "umbrad-check"}} {
		if e.Explain(p, l, n.action, n.resource).Allowed {
			return true
		}
	}
	return false
}
