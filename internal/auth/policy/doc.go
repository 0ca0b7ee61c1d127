// Package policy evaluates AWS IoT policy documents. It is pure: documents are
// parsed and compiled once, bound to what is known of a connection, and then
// asked for each action.
//
//	docs → [Parse] → [Policy] → [NewSet] → [Set] → [Set.Bind] with an [Env] → [Rights]
//
// # Rules
//
// They are those of the AWS documents "AWS IoT Core policies" and "IAM JSON
// policy elements":
//
//   - Nothing is allowed unless a statement allows it, and nothing that a
//     statement denies.
//   - A statement counts when its Action (or not its NotAction), its Resource (or
//     not its NotResource) and every Condition match.
//   - Actions are compared without case, resources with it, as whole ARNs. "*"
//     stands for any characters, "?" for one. The wildcards of MQTT are
//     characters like all others.
//   - ${name} is replaced once, by text that is literal, in documents of version
//     2012-10-17 only. ${name, 'default'} has a value in any case. Where a
//     variable has no value its resource matches nothing.
//   - Of a multi-valued attribute of a certificate, a name stands for the first
//     value, name.N for the one with index N from 0, and name.List for all (at most
//     five) in conditions. Values that contain one of * $ + ? # or are longer than
//     1024 characters are not put in place of variables.
//   - The name of the principal, which AWS does not have, is treated as an
//     attribute of a certificate. In resources of things (thing/..., and topics
//     below $aws/things/) it has a value only when a thing can have that name: other
//     text would be a path there.
//   - Thing variables exist over MQTT and for registered things only.
//   - Conditions: all operators and all keys must hold, one value of a key is
//     enough. A key that is absent makes a condition false, one that negates
//     true, ...IfExists true. ForAllValues of nothing is true, ForAnyValue false.
//
// # Where AWS is silent
//
//   - A document with anything that is not understood is refused by Parse. For a
//     document that got into a store nevertheless there is [Salvage]: it allows
//     nothing, and denies what it denied.
//   - An operator without ForAllValues or ForAnyValue, on a key with several
//     values, is true when one of them matches; one that negates, when none does.
//   - A variable without value makes a condition value that equals nothing.
//     With an operator that negates, or NotResource, an Allow then does not count
//     and a Deny does.
package policy
