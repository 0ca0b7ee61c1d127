package config

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"
	"time"
)

// forever is the longest duration.
const forever = time.Duration(math.MaxInt64)

// Setting describes one setting.
type Setting struct {
	Name    string
	Group   string
	Help    string
	Default string
	AWS     string // default of the profile "aws" where it differs

	// Listener is whether each listener may have its own, for its connections.
	Listener bool

	value value
}

func (s Setting) isBool() bool {
	_, ok := s.value.(boolean)
	return ok
}

func (s Setting) defaultOf(profile string) string {
	if profile == "aws" && s.AWS != "" {
		return s.AWS
	}
	return s.Default
}

// Settings returns all settings in the order of the documentation.
func Settings() []Setting { return new(Config).settings() }

// settings is the table of all settings: what it does not list cannot be set. The profile comes
// before the limits, whose defaults depend on it.
func (c *Config) settings() []Setting {
	var table []Setting
	table = append(table, c.listenerSettings()...)
	table = append(table, c.tlsSettings()...)
	table = append(table, c.authSettings()...)
	table = append(table, c.otherAuthSettings()...)
	table = append(table, c.authzSettings()...)
	table = append(table, c.storeSettings()...)
	table = append(table, c.shadowSettings()...)
	table = append(table, c.httpSettings()...)
	table = append(table, c.brokerSettings()...)
	table = append(table, c.floodSettings()...)
	table = append(table, c.principalSettings()...)
	table = append(table, c.protocolSettings()...)
	table = append(table, c.mappingSettings()...)
	return append(table, c.logSettings()...)
}

func (c *Config) listenerSettings() []Setting {
	const group = "Listeners"
	return []Setting{
		{
			Name: "mqtt", Group: group, Default: "127.0.0.1:1883", value: text{&c.MQTT},
			Help: "address of the MQTT listener, `off` for none; port 0 lets the system choose; without a host (`:1883`) it is 127.0.0.1, for every interface write `0.0.0.0:1883` or `[::]:1883`",
		},
		{
			Name: "http", Group: group, Default: "127.0.0.1:8080", value: text{&c.HTTP},
			Help: "address of the HTTP listener (REST, MQTT over WebSocket at `/mqtt`, `/metrics`), in the same forms",
		},
		{
			Name: "mqtts", Group: group, Default: "off", value: text{&c.MQTTS},
			Help: "address of the MQTT listener with TLS, such as `0.0.0.0:8883`",
		},
		{
			Name: "https", Group: group, Default: "off", value: text{&c.HTTPS},
			Help: "address of the HTTP listener with TLS, such as `0.0.0.0:8443`; MQTT too, for clients that ask for it by ALPN (`x-amzn-mqtt-ca`, `mqtt`)",
		},
		{
			Name: "listeners", Group: group, value: listeners{&c.Listeners},
			Help: "more listeners: URLs with spaces between them, or a list in the file; see [security.md](security.md)",
		},
		{
			Name: "allow-anonymous", Group: group, Default: "false", value: boolean{&c.AllowAnonymous},
			Help: "serve addresses that are not loopback although anybody who reaches them may do everything",
		},
		{
			Name: "dashboard", Group: group, Default: "true", value: boolean{&c.Dashboard},
			Help: "serve the dashboard, a page for browsers, at `/dashboard/` of the HTTP listeners; see [dashboard.md](dashboard.md)",
		},
		{
			Name: "websocket-origins", Group: group, value: origins{&c.Origins},
			Help: "sites whose pages may connect over WebSocket and change things over HTTP, besides those of the server's own host and port: hosts, or origins such as `https://app.example`, with commas between them; `*` and `?` are wildcards, and `*` alone is every site",
		},
		{
			Name: "hosts", Group: group, value: hosts{&c.Hosts},
			Help: "names that HTTP requests may be for at loopback listeners that let everybody in, besides `localhost`, `*.localhost` and IP addresses: with commas between them and without ports; `*` and `?` are wildcards, and `*` alone is every name; a reverse proxy that passes on the name that its clients use needs it",
		},
		{
			Name: "proxy-from", Group: group, value: prefixes{&c.Proxies},
			Help: "addresses and networks of proxies, with commas between them; every connection has to come from one and begin with a PROXY header of version 2",
		},
	}
}

func (c *Config) tlsSettings() []Setting {
	const group = "TLS"
	return []Setting{
		{
			Name: "tls-cert", Group: group, value: text{&c.TLS.Cert},
			Help: "PEM file of the server's certificate with its chain; it and the files below are read again when they change",
		},
		{
			Name: "tls-key", Group: group, value: text{&c.TLS.Key},
			Help: "PEM file of its private key",
		},
		{
			Name: "tls-client-ca", Group: group, value: text{&c.TLS.ClientCA},
			Help: "PEM file of the authorities whose client certificates count",
		},
		{
			Name: "tls-client-cert", Group: group, value: choice{(*string)(&c.TLS.ClientCert), clientCerts()},
			Help: "client certificates are `none`, `optional` or `required`; empty means, with `tls-client-ca`, required for MQTT and optional for HTTP",
		},
		{
			Name: "tls-crl", Group: group, value: text{&c.TLS.CRL},
			Help: "file of certificate revocation lists, signed by authorities of `tls-client-ca`",
		},
		{
			Name: "tls-min-version", Group: group, Default: "1.2", value: choice{&c.TLS.MinVersion, tlsVersions()},
			Help: "oldest version of TLS, `1.2` or `1.3`",
		},
		{
			Name: "tls-identity", Group: group, Default: "cn", value: choice{&c.TLS.Identity, identities()},
			Help: "which part of a client certificate is the name of the thing: `cn` (common name), `uri` (first URI of the subject alternative names, without `urn:umbra:thing:`) or `id` (SHA-256 of the certificate)",
		},
		{
			Name: "stranger-bytes", Group: group, Default: "64MiB", value: size[int]{&c.StrangerBytes, 1 << 20, 1 << 36},
			Help: "memory for all clients together that have not yet proved who they are, 32 KiB for each, large packets, headers and TLS handshakes; when it is used up the oldest of them make room",
		},
		{
			Name: "connections", Group: group, Default: "0", value: integer[int]{&c.Connections, 0, 1 << 30},
			Help: "connections at a time of all listeners; above that who is not known yet makes room, as at a listener; 0 is as many as leave the store the files that it needs: the limit of open files (`ulimit -n`) less a quarter, 1000 at most, 32, and `webhook-requests`",
		},
		{
			Name: "address-connections", Group: group, Default: "0", value: integer[int]{&c.PerAddress, 0, 1 << 20},
			Help: "connections at a time from one address, of IPv6 from one network with 64 bits, behind proxies that of the client; further ones take the place of one that is not known yet, or are closed; 0 is no bound",
		},
		{
			Name: "handshake-timeout", Group: group, Default: "10s", value: duration{&c.Handshake, 1, forever},
			Help: "for a PROXY header and the TLS handshake together",
		},
		{
			Name: "tls-handshake-bytes", Group: group, Default: "64KiB", value: size[int]{&c.HandshakeBytes, 4 << 10, 1 << 20},
			Help: "what a client may send for a TLS handshake, its certificates among it; twice as much has to be in `stranger-bytes`",
		},
	}
}

func (c *Config) authzSettings() []Setting {
	const group = "Authorization"
	return []Setting{
		{
			Name: "policies", Group: group, value: text{&c.Authz.Policies},
			Help: "folder of policies (`NAME.json`), `attachments.json` and `things.json`, which are read again when they change; see [security.md](security.md)",
		},
		{
			Name: "default-policies", Group: group, Default: "device", value: text{&c.Authz.Default},
			Help: "names of the policies of principals that have none, with commas between them; empty means that they may do nothing",
		},
		{
			Name: "aws-region", Group: group, Default: "us-east-1", value: text{&c.Authz.Region},
			Help: "region in the ARNs that policies name resources by",
		},
		{
			Name: "aws-account", Group: group, Default: "123456789012", value: text{&c.Authz.Account},
			Help: "account in the same ARNs",
		},
		{
			Name: "audit-file", Group: group, value: text{&c.Authz.AuditFile},
			Help: "file of audit records, JSON lines; what is denied, failed logins and changes of shadows are in files of their own, with `.denied`, `.logins` and `.shadows` behind the name; `-` is the standard output; empty keeps the last records in memory only",
		},
		{
			Name: "audit-file-size", Group: group, Default: "16MiB", value: size[int64]{&c.Authz.AuditBytes, 1, 1 << 50},
			Help: "size at which the next file of audit records begins; four are kept of each sort",
		},
		{
			Name: "audit-shadows", Group: group, Default: "desired", value: choice{&c.Authz.AuditShadows, []string{"desired", "all", "off"}},
			Help: "changes of shadows that are recorded: `desired` are those of what is desired and deletions, which apps and operators make, `all` those of reports too",
		},
	}
}

func (c *Config) storeSettings() []Setting {
	const group = "Store"
	return []Setting{
		{
			Name: "data", Group: group, Default: "./umbra-data", value: text{&c.Data},
			Help: "directory of the data",
		},
		{
			Name: "store", Group: group, value: text{&c.Store},
			Help: "where shadows are kept: `pebble:DIR`, `redis://…`, `rediss://…` or `memory`; empty means Pebble in the data directory",
		},
		{
			Name: "store-wait", Group: group, Default: "0s", value: duration{&c.StoreWait, 0, forever},
			Help: "how long to wait at start for a store that does not answer; 0s fails at once",
		},
		{
			Name: "redis-load-wait", Group: group, Default: "10m", value: duration{&c.Redis.LoadWait, 0, forever},
			Help: "how long to wait at start for a Redis that answers that it is still loading its data",
		},
		{
			Name: "redis-node", Group: group, value: text{&c.Redis.Node},
			Help: "name of this node among those that share a Redis; unique, and the same over restarts; empty means a name kept in the data directory",
		},
		{
			Name: "redis-prefix", Group: group, Default: "umbra", value: text{&c.Redis.Prefix},
			Help: "beginning of all keys in Redis, without braces",
		},
		{
			Name: "redis-allow-eviction", Group: group, Default: "false", value: boolean{&c.Redis.AllowEviction},
			Help: "start although Redis may evict keys (`maxmemory-policy` is not `noeviction`), which loses shadows",
		},
		{
			Name: "history-versions", Group: group, Default: "100", value: integer[int]{&c.History.Versions, 0, 1_000_000},
			Help: "versions of each shadow that are kept as history; 0 keeps none",
		},
		{
			Name: "history-age", Group: group, Default: "168h", value: duration{&c.History.Age, 1, forever},
			Help: "age at which history may be forgotten",
		},
		{
			Name: "cache-bytes", Group: group, Default: "64MiB", value: size[int64]{&c.CacheBytes, 1, 1 << 50},
			Help: "memory for documents that were used lately",
		},
		{
			Name: "commit-timeout", Group: group, Default: "5s", value: duration{&c.CommitTimeout, 1, forever},
			Help: "how long a request waits for the store before it is refused with 500",
		},
		{
			Name: "tombstone-age", Group: group, Default: "48h", value: duration{&c.TombstoneAge, 1, forever},
			Help: "how long a deleted shadow keeps its version number",
		},
	}
}

func (c *Config) shadowSettings() []Setting {
	const group = "Shadow limits"
	return []Setting{
		{
			Name: "limits", Group: group, Default: "default", value: choice{&c.Profile, []string{"default", "aws"}},
			Help: "profile that the defaults of the other limits come from: `default`, or `aws` for what AWS IoT Core allows",
		},
		{
			Name: "document-bytes", Group: group, Default: "8KiB", value: size[int]{&c.Shadow.DocumentBytes, 1, 1 << 26},
			Help: "desired and reported of one shadow, as compact JSON",
		},
		{
			Name: "document-depth", Group: group, Default: "8", value: integer[int]{&c.Shadow.Depth, 1, 1000},
			Help: "levels of objects and arrays below desired or reported",
		},
		{
			Name: "token-bytes", Group: group, Default: "64", value: size[int]{&c.Shadow.TokenBytes, 1, 1 << 16},
			Help: "a client token",
		},
		{
			Name: "request-bytes", Group: group, Default: "128KiB", value: size[int]{&c.Shadow.PayloadBytes, 1, 1 << 27},
			Help: "the payload of a shadow request",
		},
		{
			Name: "in-flight", Group: group, Default: "0", AWS: "10", value: integer[int]{&c.Quota.InFlight, 0, 1_000_000},
			Help: "unanswered requests of one client for one thing, refused with 429 above it; 0 is no limit, as back-pressure serves better",
		},
		{
			Name: "request-rate", Group: group, Default: "0", AWS: "20", value: integer[int]{&c.Quota.Rate, 0, 1_000_000},
			Help: "requests per second for one thing, refused with 429 above it; 0 is no limit",
		},
		{
			Name: "named-shadows", Group: group, Default: "1000", AWS: "0", value: integer[int]{&c.NamedShadows, 0, 1_000_000},
			Help: "named shadows of one thing that are there; what would make a further one is refused with 429; 0 is no limit",
		},
	}
}

func (c *Config) httpSettings() []Setting {
	const group = "HTTP limits"
	return []Setting{
		{
			Name: "request-timeout", Group: group, Default: "10s", value: duration{&c.RequestTimeout, 1, forever / 3},
			Help: "how long a request may take to be read, and again to be answered, event streams aside; a client that has not taken the answer, or what a stream sends at once, after three times as long is gone",
		},
		{
			Name: "http-idle-timeout", Group: group, Default: "2m", value: duration{&c.IdleTimeout, 1, forever},
			Help: "how long a connection may be silent between two requests; where a load balancer keeps connections, longer than it does",
		},
		{
			Name: "http-header-bytes", Group: group, Default: "16KiB", value: size[int]{&c.HeaderBytes, 1 << 10, 1 << 20},
			Help: "the first line and the headers of a request, which may be 4 KiB larger; above that 431; twice as much has to be in `stranger-bytes`",
		},
	}
}

func (c *Config) brokerSettings() []Setting {
	const group = "MQTT limits"
	return []Setting{
		{
			Name: "payload-bytes", Group: group, Default: "1MiB", AWS: "128KiB", value: size[int]{&c.Broker.PayloadBytes, 1, 1 << 27},
			Help: "the payload of an MQTT message, and the body of an HTTP request; packets may be 1 KiB larger",
		},
		{
			Name: "receive-maximum", Group: group, Listener: true, Default: "1024", AWS: "100", value: integer[uint16]{&c.Broker.ReceiveMaximum, 1, 65535},
			Help: "messages with QoS 1 or 2, or shadow requests, that a client may have unacknowledged; it has to wait above that",
		},
		{
			Name: "topic-alias-maximum", Group: group, Listener: true, Default: "16", AWS: "8", value: integer[uint16]{&c.Broker.TopicAliasMaximum, 1, 65535},
			Help: "topic aliases of one connection",
		},
		{
			Name: "topic-levels", Group: group, Default: "128", value: integer[int]{&c.Broker.TopicLevels, 1, 65535},
			Help: "levels of a topic or topic filter",
		},
		{
			Name: "client-id-bytes", Group: group, Listener: true, Default: "128", value: size[int]{&c.Broker.ClientIDBytes, 1, 65535},
			Help: "a client id",
		},
		{
			Name: "keep-alive", Group: group, Listener: true, Default: "0s", AWS: "20m", value: seconds{&c.Broker.KeepAlive, 0, 65535 * time.Second},
			Help: "longest keep-alive, also for clients that ask for more or for none: MQTT 5 is told so, older ones are cut off after 1.5 times of it without a packet; 0s is as the client wants",
		},
		{
			Name: "session-expiry", Group: group, Listener: true, Default: "168h", AWS: "1h", value: seconds{&c.Broker.SessionExpiry, time.Second, forever},
			Help: "how long a session of MQTT 3.1.1 outlives its connection, and the most that clients of MQTT 5 get",
		},
		{
			Name: "queue-messages", Group: group, Default: "10000", value: integer[int]{&c.Broker.QueueMessages, 1, 1 << 30},
			Help: "messages with QoS 1 or 2 kept for one client that is away or slow",
		},
		{
			Name: "queue-bytes", Group: group, Default: "64MiB", value: size[int64]{&c.Broker.QueueBytes, 1, 1 << 50},
			Help: "the same in bytes",
		},
		{
			Name: "queue-total-bytes", Group: group, Default: "4GiB", value: size[int64]{&c.Broker.QueueTotal, 1, 1 << 50},
			Help: "the same of all clients together; clients that are connected have 64 KiB each all the same",
		},
		{
			Name: "queue-memory", Group: group, Default: "256MiB", value: size[int64]{&c.Broker.QueueMemory, 1, 1 << 50},
			Help: "messages of all clients that wait in memory, in bytes; above it those that are stored are read again when their client takes them",
		},
		{
			Name: "queue-refuse", Group: group, Default: "false", value: boolean{&c.Broker.QueueRefuses},
			Help: "when the queue of a session that outlives its connection is full, refuse new messages to their publisher " +
				"(MQTT 5: 0x97; MQTT 3.1.1: the connection ends) instead of dropping the oldest ones",
		},
		{
			Name: "retained-messages", Group: group, Default: "1000000", value: integer[int]{&c.Broker.RetainedMessages, 1, 1 << 30},
			Help: "retained messages in all",
		},
		{
			Name: "retained-bytes", Group: group, Default: "256MiB", value: size[int64]{&c.Broker.RetainedBytes, 1, 1 << 50},
			Help: "the same in bytes",
		},
		{
			Name: "presence-things", Group: group, Default: "100000", value: integer[int]{&c.Broker.PresenceThings, 1, 1 << 30},
			Help: "things that are not connected of which it is remembered since when (`presence`); the one that left first is forgotten",
		},
		{
			Name: "outgoing-bytes", Group: group, Listener: true, Default: "1MiB", value: size[int]{&c.Broker.OutgoingBytes, 1, 1 << 30},
			Help: "written to one connection and not yet taken by the network",
		},
	}
}

func (c *Config) mappingSettings() []Setting {
	const group = "Mappings"
	return []Setting{
		{
			Name: "mappings", Group: group, value: names{&c.Mappings},
			Help: "mappings of plain MQTT devices, with commas between them, or a list in the file: names of those that come with umbrad and paths of files; see [mappings.md](mappings.md)",
		},
		{
			Name: "native-topics", Group: group, Default: "on", value: choice{&c.NativeTopics, []string{"on", "off"}},
			Help: "`on`: messages on `things/{thing}/reported` and `things/{thing}/desired` are updates of shadows, and the delta is retained on `things/{thing}/delta`",
		},
		{
			Name: "keep-retained", Group: group, Default: "false", value: boolean{&c.KeepRetained},
			Help: "when a thing is deleted, leave the retained messages alone that mappings and native topics made it of",
		},
	}
}

func (c *Config) logSettings() []Setting {
	const group = "Log"
	return []Setting{
		{
			Name: "log-level", Group: group, Default: "info", value: level{&c.LogLevel},
			Help: "least important level that is logged: `debug`, `info`, `warn` or `error`",
		},
		{
			Name: "log-format", Group: group, Default: "text", value: choice{&c.LogFormat, []string{"text", "json"}},
			Help: "`text` or `json`",
		},
	}
}

const usageHead = `Usage: umbrad [flags]

umbrad serves device shadows over MQTT and HTTP. It prints one line to its standard
output when it is ready, and logs to its standard error.

  --config FILE   read settings from a YAML file
  --check         check the settings and exit
  --version       print the version and exit
  --help          print this text and exit

Every setting is also an environment variable (--store-wait is UMBRA_STORE_WAIT) and a
key of the file (store-wait). A flag wins over the environment, that over the file.
`

// Usage writes the help text of umbrad.
func Usage(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(tw, usageHead)
	group := ""
	for _, s := range Settings() {
		if s.Group != group {
			group = s.Group
			fmt.Fprintf(tw, "\n%s:\n", group)
		}
		def := s.Default
		if def == "" {
			def = "-"
		}
		fmt.Fprintf(tw, "  --%s\t%s\t%s\n", s.Name, def, s.Help)
	}
	return tw.Flush()
}
