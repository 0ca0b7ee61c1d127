package main

import (
	"strconv"
	"time"

	"github.com/umbra-iot/umbra/internal/client"
)

// withPresence adds what is known of the connection of a thing to the item of one of its shadows; c is nil when the
// server keeps no presence.
func (a *app) withPresence(it item, c *client.Connectivity) item {
	if c == nil {
		return it
	}
	state, since, reason, field := cell{text: "offline", tint: tintDim}, none, none, ""
	if c.Connected {
		state = cell{text: "connected", tint: tintGreen}
	}
	if c.Since > 0 {
		since, field = clock(c.Since, a.location()), stamp(c.Since, a.location())
	}
	if c.Reason != "" {
		reason = c.Reason
	}
	doc := object{"connected": c.Connected}
	if field != "" {
		doc["since"] = field
	}
	if c.Reason != "" {
		doc["reason"] = c.Reason
	}
	it.doc["connectivity"] = doc
	it.cells = append(it.cells, state)
	it.more = append([]cell{{text: since}, {text: reason}}, it.more...)
	it.fields = append(it.fields, strconv.FormatBool(c.Connected), field, c.Reason)
	return it
}

// presence is what the headline of a shadow says of the connection of its thing, "" when the server keeps no presence.
func (a *app) presence(doc *document) cell {
	c, ok := doc.members["connectivity"].(object)
	if !ok {
		return cell{}
	}
	lasted := ""
	if since := integer(c["since"]); since > 0 {
		lasted = " for " + age(a.now().Sub(time.UnixMilli(since)))
	}
	if connected, _ := c["connected"].(bool); connected {
		return cell{text: "connected" + lasted, tint: tintGreen}
	}
	if reason, ok := c["reason"].(string); ok {
		lasted += " (" + reason + ")"
	}
	return cell{text: "offline" + lasted, tint: tintDim}
}
