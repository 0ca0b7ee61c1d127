package config

// floodSettings bound what one client may do to others.
func (c *Config) floodSettings() []Setting {
	const group = "MQTT limits"
	return []Setting{
		{
			Name: "connect-bytes", Group: group, Listener: true, Default: "64KiB", value: size[int]{&c.Broker.ConnectBytes, 64, 1 << 27},
			Help: "a CONNECT packet, the only one that is read of clients that are not known yet",
		},
		{
			Name: "client-connect-rate", Group: group, Listener: true, Default: "100", value: integer[int]{&c.Broker.ClientConnects, 0, 1_000_000},
			Help: "CONNECT packets per second with the client id of a session that is there, as when two clients have the same one; faster ones wait, those that would wait longer than `connect-timeout` are refused (MQTT 5: 0x9F); 0 is no bound",
		},
		{
			Name: "subscriptions", Group: group, Listener: true, Default: "10000", AWS: "50", value: integer[int]{&c.Broker.Subscriptions, 1, 1 << 30},
			Help: "subscriptions of one session",
		},
		{
			Name: "subscribe-filters", Group: group, Listener: true, Default: "1000", AWS: "8", value: integer[int]{&c.Broker.SubscribeFilters, 1, 1 << 20},
			Help: "topic filters in one SUBSCRIBE packet",
		},
		{
			Name: "message-rate", Group: group, Listener: true, Default: "0", AWS: "100", value: integer[int]{&c.Broker.MessageRate, 0, 1_000_000},
			Help: "messages that one connection may publish per second; faster ones wait, none are lost; 0 is no bound",
		},
		{
			Name: "byte-rate", Group: group, Listener: true, Default: "0", AWS: "512KiB", value: size[int]{&c.Broker.ByteRate, 0, 1 << 30},
			Help: "the same in bytes",
		},
		{
			Name: "connect-timeout", Group: group, Listener: true, Default: "10s", value: duration{&c.Broker.ConnectTimeout, 1, forever},
			Help: "from a new connection to the end of its CONNECT",
		},
		{
			Name: "write-timeout", Group: group, Listener: true, Default: "20s", value: duration{&c.Broker.WriteTimeout, 1, forever},
			Help: "a client that takes no bytes for so long is cut off, after twice as long at the latest",
		},
	}
}

// principalSettings bound what one principal may do to others, with all its clients.
func (c *Config) principalSettings() []Setting {
	const group = "Limits of a principal"
	p := &c.Broker.Principal
	return []Setting{
		{
			Name: "principal-connections", Group: group, Listener: true, Default: "0", value: integer[int]{&p.Connections, 0, 1 << 30},
			Help: "MQTT connections, and HTTP requests under way, event streams among them, at a time; further ones are refused (MQTT 5: 0x97; HTTP: 429); 0 is half of `connections`",
		},
		{
			Name: "principal-sessions", Group: group, Listener: true, Default: "100000", value: integer[int]{&p.Sessions, 0, 1 << 30},
			Help: "MQTT sessions, connected or not; who has so many gets no further ones (MQTT 5: 0x97); 0 is no bound",
		},
		{
			Name: "principal-subscriptions", Group: group, Listener: true, Default: "1000000", value: integer[int]{&p.Subscriptions, 0, 1 << 30},
			Help: "subscriptions of all sessions; further ones are refused (MQTT 5: 0x97); 0 is no bound",
		},
		{
			Name: "principal-queue-bytes", Group: group, Default: "0", value: size[int64]{&c.Broker.PrincipalQueueBytes, 0, 1 << 50},
			Help: "messages that wait for clients, all together, as with `queue-total-bytes`; 0 is half of that",
		},
		{
			Name: "principal-retained-messages", Group: group, Default: "0", value: integer[int]{&c.Broker.PrincipalRetained, 0, 1 << 30},
			Help: "retained messages; further ones are delivered and not retained (MQTT 5: 0x97); 0 is half of `retained-messages`",
		},
		{
			Name: "principal-retained-bytes", Group: group, Default: "0", value: size[int64]{&c.Broker.PrincipalRetainedBytes, 0, 1 << 50},
			Help: "the same in bytes; 0 is half of `retained-bytes`",
		},
		{
			Name: "principal-connect-rate", Group: group, Listener: true, Default: "0", value: integer[int]{&p.Connects, 0, 1_000_000},
			Help: "CONNECT packets per second; faster ones wait, those that would wait longer than `connect-timeout` are refused (MQTT 5: 0x9F); 0 is no bound, here and below",
		},
		{
			Name: "principal-message-rate", Group: group, Listener: true, Default: "0", value: integer[int]{&p.Messages, 0, 1_000_000},
			Help: "messages that all MQTT connections may publish per second; faster ones wait, none are lost",
		},
		{
			Name: "principal-byte-rate", Group: group, Listener: true, Default: "0", value: size[int]{&p.Bytes, 0, 1 << 30},
			Help: "the same in bytes",
		},
		{
			Name: "principal-request-rate", Group: group, Listener: true, Default: "0", value: integer[int]{&p.Requests, 0, 1_000_000},
			Help: "HTTP requests per second; further ones are refused with 429, which AWS's SDKs repeat by themselves",
		},
	}
}

func (c *Config) protocolSettings() []Setting {
	const group = "MQTT"
	return []Setting{
		{
			Name: "presence", Group: group, Default: "false", value: boolean{&c.Presence},
			Help: "keep which things are connected, since when, and why their last connection ended; the API under `/v1/`, `umbra get` and `umbra ls` show it",
		},
		{
			Name: "aws-strict", Group: group, Default: "false", value: boolean{&c.AWSStrict},
			Help: "deviate from MQTT as AWS IoT Core does (no QoS 2, `a/#` does not match `a`, …), so that a device that works here works there",
		},
		{
			Name: "refuse-filters", Group: group, Listener: true, value: filters{&c.Broker.RefuseFilters},
			Help: "topic filters with commas between them that nobody may subscribe to, such as `#,+/#`; each stands only for itself",
		},
		{
			Name: "system-interval", Group: group, Default: "10s", AWS: "0s", value: duration{&c.Broker.SystemInterval, 0, forever},
			Help: "how often the topics under `$SYS/broker` are brought up to date; 0s is never, there are none then",
		},
	}
}
