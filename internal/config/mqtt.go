package config

// floodSettings bound what one client may do to others.
func (c *Config) floodSettings() []Setting {
	const group = "MQTT limits"
	return []Setting{
		{
			Name: "connect-bytes", Group: group, Default: "64KiB", value: size[int]{&c.Broker.ConnectBytes, 64, 1 << 27},
			Help: "a CONNECT packet, the only one that is read of clients that are not known yet",
		},
		{
			Name: "principal-connections", Group: group, Default: "0", value: integer[int]{&c.Broker.PerPrincipal, 0, 1 << 30},
			Help: "MQTT connections of one principal at a time, on this node; further ones are refused (MQTT 5: 0x97); 0 is no bound, for fleets whose devices share a password",
		},
		{
			Name: "subscriptions", Group: group, Default: "10000", AWS: "50", value: integer[int]{&c.Broker.Subscriptions, 1, 1 << 30},
			Help: "subscriptions of one session",
		},
		{
			Name: "subscribe-filters", Group: group, Default: "1000", AWS: "8", value: integer[int]{&c.Broker.SubscribeFilters, 1, 1 << 20},
			Help: "topic filters in one SUBSCRIBE packet",
		},
		{
			Name: "message-rate", Group: group, Default: "0", AWS: "100", value: integer[int]{&c.Broker.MessageRate, 0, 1_000_000},
			Help: "messages that one connection may publish per second; faster ones wait, none are lost; 0 is no bound",
		},
		{
			Name: "byte-rate", Group: group, Default: "0", AWS: "512KiB", value: size[int]{&c.Broker.ByteRate, 0, 1 << 30},
			Help: "the same in bytes",
		},
		{
			Name: "connect-timeout", Group: group, Default: "10s", value: duration{&c.Broker.ConnectTimeout, 1, forever},
			Help: "from a new connection to the end of its CONNECT",
		},
		{
			Name: "write-timeout", Group: group, Default: "20s", value: duration{&c.Broker.WriteTimeout, 1, forever},
			Help: "a client that takes no bytes for so long is cut off",
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
			Name: "refuse-filters", Group: group, value: filters{&c.Broker.RefuseFilters},
			Help: "topic filters with commas between them that nobody may subscribe to, such as `#,+/#`; each stands only for itself",
		},
		{
			Name: "system-interval", Group: group, Default: "10s", AWS: "0s", value: duration{&c.Broker.SystemInterval, 0, forever},
			Help: "how often the topics under `$SYS/broker` are brought up to date; 0s is never, there are none then",
		},
	}
}
