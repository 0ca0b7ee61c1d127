package auth

import "net/netip"

// Action is something that needs a permission.
type Action uint8

// The actions of AWS IoT, and those of the service itself.
const (
	Connect               Action = iota + 1 // on a client id
	Publish                                 // on a topic: every publish, wills too
	RetainPublish                           // in addition, with the RETAIN flag
	Subscribe                               // on a filter, without the prefix of a shared subscription
	Receive                                 // on a topic: every delivery
	GetThingShadow                          // on a thing, or thing/shadow; HTTP only, as the next three
	UpdateThingShadow                       // on the same
	DeleteThingShadow                       // on the same
	ListNamedShadows                        // on a thing
	GetRetainedMessage                      // on a topic
	ListRetainedMessages                    // on everything
	GetConnection                           // on a client id
	DeleteConnection                        // on a client id
	ListSubscriptions                       // on a client id
	ListThings                              // on everything
	GetMetrics                              // on everything
	ListPolicies                            // on everything: names of policies, attachments
	GetPolicy                               // on a policy
	PutPolicy                               // on a policy
	DeletePolicy                            // on a policy
	AttachPolicy                            // on a policy; to detach it too
	ListCredentials                         // on a kind of credentials
	PutCredential                           // on a kind, or kind/id
	DeleteCredential                        // on kind/id
	ListRegistry                            // on everything: registered things
	GetRegisteredThing                      // on a thing, as the next two
	PutRegisteredThing                      // on the same
	DeleteRegisteredThing                   // on the same
	TestPolicy                              // on everything: what another principal may do
	GetAudit                                // on everything
	Administer                              // on everything: what has no action of its own
	lastAction
)

// Actions returns all actions.
func Actions() []Action {
	list := make([]Action, 0, lastAction-1)
	for a := Connect; a < lastAction; a++ {
		list = append(list, a)
	}
	return list
}

// String returns the name of the action in policies.
func (a Action) String() string {
	names := [...]string{
		"", "iot:Connect", "iot:Publish", "iot:RetainPublish", "iot:Subscribe", "iot:Receive",
		"iot:GetThingShadow", "iot:UpdateThingShadow", "iot:DeleteThingShadow", "iot:ListNamedShadowsForThing",
		"iot:GetRetainedMessage", "iot:ListRetainedMessages", "iot:GetConnection", "iot:DeleteConnection", "iot:ListSubscriptions",
		"umbra:ListThings", "umbra:GetMetrics", "umbra:ListPolicies", "umbra:GetPolicy", "umbra:PutPolicy", "umbra:DeletePolicy",
		"umbra:AttachPolicy", "umbra:ListCredentials", "umbra:PutCredential", "umbra:DeleteCredential",
		"umbra:ListRegistry", "umbra:GetRegisteredThing", "umbra:PutRegisteredThing", "umbra:DeleteRegisteredThing", "umbra:TestPolicy", "umbra:GetAudit", "umbra:Administer",
	}
	if int(a) >= len(names) {
		return ""
	}
	return names[a]
}

// Resource returns what begins the resource part of the ARN that the action is about; "" when its
// resource is "*" as a whole.
func (a Action) Resource() string {
	switch a {
	case Connect, GetConnection, DeleteConnection, ListSubscriptions:
		return "client/"
	case Publish, RetainPublish, Receive, GetRetainedMessage:
		return "topic/"
	case Subscribe:
		return "topicfilter/"
	case GetThingShadow, UpdateThingShadow, DeleteThingShadow, ListNamedShadows, GetRegisteredThing, PutRegisteredThing, DeleteRegisteredThing:
		return "thing/"
	case GetPolicy, PutPolicy, DeletePolicy, AttachPolicy:
		return "policy/"
	case ListCredentials, PutCredential, DeleteCredential:
		return "credential/"
	default:
		return ""
	}
}

// Rights are what one connection or request may do. A nil Rights is no restriction: see Allowed and Shown.
type Rights interface {
	// Allows reports whether an action is allowed on what name names: a topic, client id, thing.
	// The answer may change from one call to the next, when policies do.
	Allows(a Action, name string) bool
	// Timed reports whether the answers about an action may change because time goes on, though policies do not.
	Timed(a Action) bool
	// Shows is Allows where something is left out of what somebody gets, a message or an event, when he may not
	// have it. That is no denial: nobody is told of it.
	Shows(a Action, name string) bool
}

// Allowed reports whether r allows an action, which nil does.
func Allowed(r Rights, a Action, name string) bool { return r == nil || r.Allows(a, name) }

// Shown reports whether r shows something, which nil does.
func Shown(r Rights, a Action, name string) bool { return r == nil || r.Shows(a, name) }

// Link is what is known of a connection or request besides who is at its other end.
type Link struct {
	MQTT       bool // not HTTP
	ClientID   string
	Remote     netip.Addr
	Secure     bool   // over TLS
	Domain     string // that the client has asked for by TLS
	Persistent bool   // the client wants a session that outlives the connection
	WillTopic  string // "" for no will
}

// Guard says what principals may do. Its methods are called at the same time from many goroutines.
type Guard interface {
	// Rights returns what a connection or request of p may do, and goes on to know changes.
	Rights(p *Principal, l Link) Rights
}
