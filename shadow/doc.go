// Package shadow says what a device shadow is and how a request changes it.
//
// It is pure: no clock, no I/O, no goroutine. Callers bring the time, the
// stored record and the request; they get the new record, the history entry
// and the messages to send.
//
// # Life of an update
//
// [ParseUpdate] turns a payload into a [Request] or an [*Error] with the code
// and the words of the protocol. [Apply] merges the request into a [Document]
// and gives a [Change], whose Append methods write the messages (accepted,
// delta, documents), the stored record and the history entry. [DecodeHistory]
// gives an entry back, and [HistoryEntry.Undo] the document before it.
//
// # Representation
//
// A document is its compact JSON text and a flat list of entries, one for each
// value in the order of the text, that say where keys and values are and when
// they were written. A merge copies what did not change as runs of bytes, so
// its cost is that of copying the document, not of decoding it. Strings have one
// spelling (no needless escapes), so equal strings are equal bytes; numbers keep
// the text they came with and are compared by their exact value.
//
// Documents, requests and changes are immutable and safe for concurrent use.
// Times are milliseconds since the Unix epoch; messages carry whole seconds.
package shadow
