package config

import "time"

// authSettings are for credentials of umbrad, and for logins.
func (c *Config) authSettings() []Setting {
	const group = "Authentication"
	return []Setting{
		{
			Name: "auth", Group: group, value: words{&c.Auth, authMethods()},
			Help: "methods of authentication, with commas between them: `certificate`, `password`, `key`, `token`, `jwt`, `webhook`, `anonymous`; empty means those that other settings configure",
		},
		{
			Name: "users", Group: group, value: text{&c.Users},
			Help: "file of users, access keys and tokens, beside those of the store; `umbra user`, `umbra key` and `umbra token` write it, and it is read again when it changes",
		},
		{
			Name: "secrets-key", Group: group, value: text{&c.SecretsKey},
			Help: "file of the key that the secrets of access keys are sealed with in the store; made when it is not there; the same for all nodes that share a store; empty means `secrets.key` in the data directory",
		},
		{
			Name: "password-checks", Group: group, Default: "2", value: integer[int]{&c.PasswordChecks, 1, 1024},
			Help: "passwords that are checked at a time, each of which takes 19 MiB; right ones are remembered for 5 minutes",
		},
		{
			Name: "waiting-logins", Group: group, Default: "256", value: integer[int]{&c.Logins.Waiting, 1, 1 << 20},
			Help: "passwords that wait until they are checked, and as many questions to the webhook; further ones are refused for now (MQTT 5: 0x88; HTTP: 503)",
		},
		{
			Name: "address-logins", Group: group, Default: "32", value: integer[int]{&c.Logins.Address, 1, 1 << 20},
			Help: "passwords of one address, of IPv6 of one network with 64 bits, that are checked or wait, and as many questions to the webhook; further ones are refused in the same way; who serves a fleet behind one address needs more",
		},
		{
			Name: "remembered-logins", Group: group, Default: "10000", value: integer[int]{&c.Logins.Remembered, 1, 1 << 24},
			Help: "right passwords that are remembered, and as many answers of the webhook, about 500 bytes each; no fewer than there are clients over HTTP, or each of their requests may be checked anew",
		},
		{
			Name: "signature-skew", Group: group, Default: "5m", value: duration{&c.Skew, 1, 24 * time.Hour},
			Help: "how far the clock of a client may be off that signs with an access key, and how long a presigned URL counts that does not say so",
		},
	}
}

// otherAuthSettings are for credentials that others know.
func (c *Config) otherAuthSettings() []Setting {
	const group = "Authentication"
	return []Setting{
		{
			Name: "jwt-keys", Group: group, value: text{&c.JWT.Keys},
			Help: "file or URL of the keys (JWKS) that sign JSON Web Tokens of another issuer",
		},
		{
			Name: "jwt-keys-interval", Group: group, Default: "10m", value: duration{&c.JWT.Interval, time.Second, 24 * time.Hour},
			Help: "how often a URL of keys is read again, so that keys are known to be withdrawn; a file is read when it changes",
		},
		{
			Name: "jwt-issuer", Group: group, value: text{&c.JWT.Issuer},
			Help: "issuer (`iss`) that a JWT has to be of",
		},
		{
			Name: "jwt-audience", Group: group, value: text{&c.JWT.Audience},
			Help: "audience (`aud`) that a JWT has to be for",
		},
		{
			Name: "jwt-algorithms", Group: group, Default: "RS256,PS256,ES256,EdDSA", value: words{&c.JWT.Algorithms, jwtAlgorithms()},
			Help: "algorithms that a JWT may be signed with; all are of key pairs",
		},
		{
			Name: "jwt-name-claim", Group: group, Default: "sub", value: text{&c.JWT.NameClaim},
			Help: "claim that is the name of the principal",
		},
		{
			Name: "jwt-groups-claim", Group: group, Default: "groups", value: text{&c.JWT.GroupClaim},
			Help: "claim that is the list of the principal's groups",
		},
		{
			Name: "jwt-bytes", Group: group, Default: "16KiB", value: size[int]{&c.JWT.Bytes, 1 << 10, 1 << 20},
			Help: "a JWT, which has to fit into `http-header-bytes` or `connect-bytes` too",
		},
		{
			Name: "webhook-url", Group: group, value: text{&c.Webhook.URL},
			Help: "server that is asked who a client is, see [security.md](security.md)",
		},
		{
			Name: "webhook-timeout", Group: group, Default: "3s", value: duration{&c.Webhook.Timeout, 1, time.Minute},
			Help: "how long it may take; without an answer the client is refused",
		},
		{
			Name: "webhook-remember", Group: group, Default: "1m", value: duration{&c.Webhook.Remember, 1, 24 * time.Hour},
			Help: "the longest that an answer counts",
		},
		{
			Name: "webhook-requests", Group: group, Default: "32", value: integer[int]{&c.Webhook.Requests, 1, 1 << 16},
			Help: "questions that it is asked at a time",
		},
	}
}

func jwtAlgorithms() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}
