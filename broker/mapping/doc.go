// Package mapping translates between the topics of plain MQTT devices and
// shadows, by rules that are data.
//
// It is pure: no clock, I/O or goroutine. [Load] compiles a mapping file,
// [NewSet] checks several against each other and makes the index that finds the
// rules for a topic, and [Engine] is a state machine: it is told of messages,
// sessions, subscriptions, changes of documents and of time, and answers with
// [Effects] for its caller to carry out.
//
// # Language
//
// docs/mappings.md is the manual of the language. In short: a mapping names the
// thing of a device by captures of its topics; report rules write payloads to
// reported; link sources say whether the device is there; commands carry what
// is outstanding in desired to topics that the device understands.
//
// # What holds
//
//   - A message is written whole or not at all, as one update of each shadow it is about.
//   - What alters no value writes nothing ([Report.Patch]).
//   - A command is sent for a change of desired, when the link turns true, or as a
//     bounded repetition. A report causes none, but under conflict: desired, within bounds.
//   - The end of an older session of a client never takes the link from a newer one.
package mapping
