package mapping

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/umbra-iot/umbra/shadow"
)

// Bounds of commands.
const (
	subscriberPatience = 30_000 // ms until no_subscriber
	contraryInterval   = 10_000 // ms between commands that a contrary report causes (conflict: desired)
	contraryLimit      = 6      // of them in a row
	maxCommandStates   = 256    // of a thing, those that are done included
)

// document takes a document and finds what is outstanding.
func (e *Engine) document(b *binding, doc *shadow.Document, ch change, now int64) {
	b.version = doc.Version()
	if b.state.m.documents {
		b.doc = doc
	}
	if len(b.state.m.commands) == 0 {
		return
	}
	before := b.commands
	old := map[string]*leaf{}
	for _, c := range before {
		for _, l := range c.leaves {
			old[strings.Join(l.path, "\x00")] = l
		}
		c.leaves = nil
	}
	b.uncovered = b.uncovered[:0]
	var touched []*commandState
	for _, d := range doc.Differences() {
		c, bad := e.assign(b, d.Path)
		if c == nil {
			if bad != nil {
				e.fail(Failure{Code: bad.code, Mapping: b.state.m.name, Thing: b.id.Thing, Text: bad.text})
			} else if !b.aboutLink(d.Path) {
				b.uncovered = append(b.uncovered, d.Path)
			}
			continue
		}
		if len(c.leaves) == 0 {
			touched = append(touched, c)
		}
		l := newLeaf(d, old[strings.Join(d.Path, "\x00")], ch)
		c.leaves = append(c.leaves, l)
	}
	for _, c := range touched {
		if c.rule.whole {
			c.whole = c.wholeOf(doc)
		}
	}
	e.settleDone(b)
	slices.SortFunc(touched, func(x, y *commandState) int { return x.index - y.index })
	for _, c := range touched {
		e.changed(b, c, ch, now)
	}
	if len(touched) > 0 || len(before) > 0 {
		e.store(b)
	}
}

// newLeaf makes the leaf of a difference; old is what it was before, nil for nothing.
func newLeaf(d shadow.Difference, old *leaf, ch change) *leaf {
	l := &leaf{path: d.Path, desired: d.Desired.Raw(), at: d.Desired.Time(), reported: d.Reported}
	l.fresh = ch.patch.Member("desired").At(d.Path...).Exists()
	switch {
	case l.fresh:
	case old != nil && old.at != l.at: // by another node
		l.fresh = true
	case old != nil:
		l.contested, l.answered = old.contested, old.answered
		if !old.reported.Equal(d.Reported) {
			l.answered = true
			l.contested = l.contested || old.reported.Exists() // a first value is no change of mind
		}
	case ch.loaded:
		l.contested = ch.resumed && d.Reported.Time() > l.at
	case ch.outstanding(d): // by another node
		l.fresh = l.at >= d.Reported.Time()
		l.contested, l.answered = !l.fresh, !l.fresh
	default: // it was in sync: the device has changed its mind
		l.contested, l.answered = true, true
	}
	if !l.answered && !l.fresh {
		l.answered = accepted(ch.patch.Member("reported"), nil, d)
	}
	return l
}

// outstanding reports that a difference was there before the change.
func (ch *change) outstanding(d shadow.Difference) bool {
	desired := ch.before.Desired().At(d.Path...)
	return desired.Exists() && desired.Time() == d.Desired.Time() && !desired.Equal(ch.before.Reported().At(d.Path...))
}

// accepted reports that a device has repeated the wanted value next to the value itself, as Homie
// does in $target: it has understood, and is on its way.
func accepted(patch shadow.Value, path []string, d shadow.Difference) bool {
	for key, v := range patch.Members() {
		p := append(slices.Clone(path), key)
		if len(p) > len(d.Path) && slices.Equal(p[len(p)-len(d.Path):], d.Path) && v.Equal(d.Desired) {
			return true
		}
		if v.IsObject() && accepted(v, p, d) {
			return true
		}
	}
	return false
}

func (b *binding) aboutLink(path []string) bool {
	return slices.ContainsFunc(b.state.m.linkPaths(), func(p []string) bool { return hasPrefix(path, p) })
}

// assign returns the command that covers a leaf, made if need be; nil for none.
func (e *Engine) assign(b *binding, path []string) (*commandState, *refusal) {
	if b.aboutLink(path) {
		return nil, nil
	}
	for i, rule := range b.state.m.commands {
		if rule.leavesOut(path) {
			continue
		}
		for _, p := range rule.paths {
			caps, ok := p.covers(path)
			if !ok {
				continue
			}
			base := len(p.keys)
			if rule.group {
				base = 0
			}
			return e.commandFor(b, i, rule, caps, path[:base])
		}
	}
	return nil, nil
}

func (e *Engine) commandFor(b *binding, index int, rule *command, caps captures, base []string) (*commandState, *refusal) {
	topic, missing, ok := rule.topic.render(&b.environment(caps).environment)
	if !ok {
		return nil, refuse(CodeEncode, "the topic needs {%s}", missing)
	}
	name := key(strconv.Itoa(index), topic, key(base...))
	c := b.commands[name]
	if c == nil {
		if len(b.commands) >= maxCommandStates {
			e.forgetDone(b)
		}
		c = &commandState{key: name, state: StateHeld}
		b.commands[name] = c
		c.adopt(b.saved)
		e.counts.add(c.state, 1)
	}
	c.rule, c.index, c.topic, c.caps, c.base = rule, index, topic, caps, len(base)
	return c, nil
}

func (e *Engine) forgetDone(b *binding) {
	for name, c := range b.commands {
		if c.state == StateDone && len(c.leaves) == 0 {
			e.counts.add(c.state, -1)
			delete(b.commands, name)
		}
	}
}

// wholeOf returns the complete desired value that a command is about.
func (c *commandState) wholeOf(doc *shadow.Document) []byte {
	if !c.rule.group {
		return doc.Desired().At(c.leaves[0].path[:c.base]...).Raw()
	}
	var leaves []*leaf
	for _, p := range c.rule.paths {
		p.find(doc.Desired(), nil, func(v shadow.Value, _ captures) bool {
			leaves = append(leaves, &leaf{path: literalPath(p.text), desired: v.Raw()})
			return true
		})
	}
	return nest(leaves, 0)
}

// settleDone notes the commands that nothing is outstanding of any more.
func (e *Engine) settleDone(b *binding) {
	for _, c := range b.commands {
		if len(c.leaves) == 0 && c.state != StateDone {
			e.rest(b, c, StateDone, "")
		}
	}
}

// rest ends what a command waits for.
func (e *Engine) rest(b *binding, c *commandState, state CommandState, text string) {
	if c.waiting {
		c.waiting = false
		e.waiting.drop(c.topic, b)
	}
	e.turn(c, state)
	c.text, c.due, c.delayed, c.wroteOff = text, 0, false, false
	e.store(b)
}

// changed does what a change of the document asks of a command.
func (e *Engine) changed(b *binding, c *commandState, ch change, now int64) {
	fresh := slices.ContainsFunc(c.leaves, func(l *leaf) bool { return l.fresh })
	answered := !slices.ContainsFunc(c.leaves, func(l *leaf) bool { return !l.answered && !c.tolerates(l) })
	switch {
	case fresh, ch.loaded && !c.resumed(now):
		c.row = 0
		e.start(b, c, now)
	case ch.loaded:
		e.wake(b, c.due)
	case c.state == StatePending && answered:
		e.rest(b, c, StateSettled, "")
		if b.state.m.conflict == conflictDevice { // once it has come to rest
			c.wroteOff, c.due = true, now+c.rule.timeout
			e.wake(b, c.due)
		}
	case c.state == StatePending:
	case !slices.ContainsFunc(c.leaves, func(l *leaf) bool { return l.answered }):
	default:
		e.contrary(b, c, now)
	}
}

// tolerates reports that what a device reports is near enough not to be asked again.
func (c *commandState) tolerates(l *leaf) bool {
	if c.rule.tolerance == 0 {
		return false
	}
	want, ok := literal(l.desired).Float()
	have, also := l.reported.Float()
	return ok && also && math.Abs(want-have) <= c.rule.tolerance
}

// contrary deals with a device that reports something else than is desired without having been asked.
func (e *Engine) contrary(b *binding, c *commandState, now int64) {
	switch b.state.m.conflict {
	case conflictDevice:
		if c.wroteOff {
			c.due = now + c.rule.timeout // still moving
			e.wake(b, c.due)
			return
		}
		e.writeBack(b, c)
	case conflictDesired:
		if c.delayed || c.waiting {
			return
		}
		if now-c.sentAt > 10*contraryInterval {
			c.row = 0
		}
		if c.row >= contraryLimit {
			e.rest(b, c, StateFailed, "the device keeps reporting something else")
			e.failCommand(b, c, CodeNoAck, c.text)
			return
		}
		c.row++
		at := max(now, c.sentAt+contraryInterval)
		if c.sentAt == 0 || at == now {
			e.start(b, c, now)
			return
		}
		c.delayed, c.due = true, at
		e.wake(b, at)
	case conflictLatest:
		if c.state == StateDone || c.state == StateHeld {
			e.turn(c, StateSettled)
		}
	}
}

// writeBack makes desired what the device reports.
func (e *Engine) writeBack(b *binding, c *commandState) {
	var leaves []*leaf
	for _, l := range c.leaves {
		if l.reported.Exists() {
			leaves = append(leaves, &leaf{path: l.path, desired: l.reported.Raw()})
		}
	}
	e.rest(b, c, StateSettled, "")
	if len(leaves) == 0 {
		return
	}
	payload := append([]byte(`{"state":{"desired":`), nest(leaves, 0)...)
	e.out.Desired = append(e.out.Desired, Write{ID: b.id, Mapping: b.state.m.name, Payload: append(payload, "}}"...)})
}

// linkUp starts everything that is outstanding anew.
func (e *Engine) linkUp(b *binding, now int64) {
	if !b.loaded {
		return
	}
	for _, c := range b.ordered() {
		if len(c.leaves) > 0 {
			c.row = 0
			e.start(b, c, now)
		}
	}
}

// sendHeld sends what the replay at start has held back.
func (e *Engine) sendHeld(b *binding, now int64) {
	for _, c := range b.ordered() {
		if len(c.leaves) > 0 && c.state == StateHeld {
			e.send(b, c, now)
		}
	}
}

// holdAll stops all commands because the device has gone.
func (e *Engine) holdAll(b *binding) {
	for _, c := range b.commands {
		if c.state == StatePending || c.state == StateNoSubscriber || c.waiting || c.delayed {
			e.rest(b, c, StateHeld, "")
		}
	}
}

func (e *Engine) start(b *binding, c *commandState, now int64) {
	c.tries = 0
	e.rest(b, c, StateHeld, "")
	e.send(b, c, now)
}

// eligible returns the leaves that a command is to carry.
func (c *commandState) eligible(m *Mapping) []*leaf {
	if m.conflict == conflictDesired {
		return c.leaves
	}
	var out []*leaf
	for _, l := range c.leaves {
		if !l.contested {
			out = append(out, l)
		}
	}
	return out
}

// send sends a command, or says what it has to wait for.
func (e *Engine) send(b *binding, c *commandState, now int64) {
	leaves := c.eligible(b.state.m)
	switch {
	case len(leaves) == 0:
		e.rest(b, c, StateSettled, "")
		return
	case b.state.replaying || !b.up():
		return
	case c.rule.await && !e.subscribed(c.topic, b.receiver()):
		if !c.waiting {
			e.turn(c, StateHeld)
			c.waiting, c.due = true, now+subscriberPatience
			e.waiting.add(c.topic, b)
			e.wake(b, c.due)
		}
		return
	}
	rate := b.state.m.limits.commands
	if ok, next := b.sending.take(rate, rate*commandsBurst, now); !ok {
		c.delayed, c.due = true, next
		e.wake(b, next)
		return
	}
	payload, bad := e.encode(b, c, leaves, now)
	if bad == nil {
		bad = checkTopic(c.topic)
	}
	if bad != nil {
		e.rest(b, c, StateFailed, bad.text)
		e.failCommand(b, c, bad.code, bad.text)
		return
	}
	for _, l := range leaves {
		l.answered = false
	}
	e.rest(b, c, StatePending, "")
	c.sentAt = now
	c.due = now + int64(float64(c.rule.timeout)*math.Pow(c.rule.backoff, float64(c.tries)))
	c.tries++
	e.wake(b, c.due)
	e.publish(b, Publish{Topic: c.topic, Payload: payload, QoS: c.rule.qos, Retain: c.rule.retain, Rule: c.rule.key, Line: c.rule.line}, now)
}

func (e *Engine) publish(b *binding, p Publish, now int64) {
	p.Thing, p.Mapping, p.Client = b.id.Thing, b.state.m.name, b.receiver()
	if p.Client == "" {
		e.remember(p.Topic, p.Payload, now)
	}
	e.out.Publish = append(e.out.Publish, p)
}

// receiver is the client that alone gets the commands of a device, "" for all.
func (b *binding) receiver() string {
	if b.state.m.deliver {
		return b.client
	}
	return ""
}

func (e *Engine) failCommand(b *binding, c *commandState, code Code, text string) {
	e.fail(Failure{Code: code, Mapping: b.state.m.name, Thing: b.id.Thing, Topic: c.topic, Text: text})
}

// checkTopic refuses topics that nobody can publish to.
func checkTopic(topic string) *refusal {
	switch {
	case topic == "" || strings.ContainsAny(topic, "+#\x00"):
		return refuse(CodeTopic, "%.100q is no topic", topic)
	case len(topic) > math.MaxUint16:
		return refuse(CodeTopic, "the topic has more than 65535 bytes")
	case strings.HasPrefix(topic, "$aws/") || strings.HasPrefix(topic, "$SYS"):
		return refuse(CodeTopic, "%.100q belongs to the server", topic)
	}
	return nil
}

// tickCommand does what is due of a command.
func (e *Engine) tickCommand(b *binding, c *commandState, now int64) {
	switch {
	case c.wroteOff:
		e.writeBack(b, c)
	case c.delayed:
		c.delayed, c.due = false, 0
		if b.state.m.conflict == conflictDesired && c.state != StateHeld && c.state != StatePending {
			c.tries = 0
		}
		e.send(b, c, now)
	case c.waiting:
		e.turn(c, StateNoSubscriber)
		c.due = 0
		e.failCommand(b, c, CodeNoSubscriber, "nobody subscribes to the command's topic")
		e.store(b)
	case c.state == StatePending && c.tries <= c.rule.retries:
		e.send(b, c, now)
	case c.state == StatePending:
		e.rest(b, c, StateFailed, "no answer")
		e.failCommand(b, c, CodeNoAck, "no answer after "+strconv.Itoa(c.tries)+" tries")
	}
}

// Subscribed takes a new subscription: what waits for it is sent.
func (e *Engine) Subscribed(filter string, now int64) *Effects {
	out := e.step()
	for _, b := range e.waiting.matching(filter) {
		for _, c := range b.ordered() {
			if c.waiting && e.subscribed(c.topic, b.receiver()) {
				e.rest(b, c, StateHeld, "")
				e.send(b, c, now)
			}
		}
		e.askAgain(b, now)
	}
	return out
}
