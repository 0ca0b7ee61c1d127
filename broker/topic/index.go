package topic

// Options are the options of a subscription (MQTT 5, 3.8.3.1).
type Options struct {
	QoS               byte // the highest that the subscriber wants
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte   // 0 send retained messages, 1 only for a new subscription, 2 never
	Identifier        uint32 // subscription identifier, 0 for none
}

// Entry is one delivery that [Index.Append] found and [Merge] may have joined with others.
type Entry[T comparable] struct {
	Subscriber        T
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	Shared            bool     // by a shared subscription, of which Subscriber is the chosen member
	Identifiers       []uint32 // subscription identifiers, nil for none; shared, do not change
}

// Index finds the subscriptions that match a topic name. Its methods may be called concurrently.
type Index[T comparable] struct{}

// NewIndex returns an empty index that takes filters of at most maxLevels levels, 0 for any number.
func NewIndex[T comparable](maxLevels int) *Index[T] { panic("not yet") }

// Set adds the subscription of subscriber to filter, or replaces its options. filter may be a shared one
// ("$share/group/filter"). The error is one of [ValidFilter]'s, or [ErrTooManyLevels].
// The index keeps the string: it must not be part of a larger buffer.
func (ix *Index[T]) Set(filter string, subscriber T, o Options) (existed bool, err error) {
	panic("not yet")
}

// Remove deletes the subscription of subscriber to filter and reports whether there was one.
func (ix *Index[T]) Remove(filter string, subscriber T) bool { panic("not yet") }

// Len returns the number of subscriptions.
func (ix *Index[T]) Len() int { panic("not yet") }

// Append appends an entry for each subscription that matches name, and one for each matching shared
// subscription: its members take turns, those for which ready reports false being passed over unless it does so for all
// of them (nil: all are ready). A subscriber appears as often as it has matching subscriptions: see [Merge].
// ready is called without a lock held.
func (ix *Index[T]) Append(dst []Entry[T], name string, ready func(T) bool) []Entry[T] {
	panic("not yet")
}

// Merge makes one entry of those of the same subscriber: the highest QoS, all identifiers, retain as published
// when one of them wants it [MQTT-3.3.4-2], [MQTT-3.3.4-3]. Shared ones stay separate. Entries of publisher with NoLocal are removed first [MQTT-3.8.3-3]
// (the zero T: none). It works in place and returns the shortened slice.
func Merge[T comparable](entries []Entry[T], publisher T) []Entry[T] { panic("not yet") }
