// Package things is the service: the only writer of shadows.
//
// A request is parsed by the goroutine that submits it and then waits in the
// lane of its shadow. Workers take all lanes that have something waiting, load
// the documents that are not cached, apply every request with package shadow,
// and commit the outcome of the whole batch at once. A batch forms by itself:
// it is whatever arrived while the last commit ran.
//
// What holds:
//
//   - Requests for one shadow are done in the order of Submit, one batch at a
//     time; different shadows go in parallel.
//   - Messages leave after the commit, in the order of versions, at most once
//     for each version while the process lives. After a crash [Service.Start]
//     announces what was committed and perhaps not announced.
//   - A refusal is given only against a document that is known to be current:
//     with a store that other processes write to, a cached document is read
//     again before a request is refused because of it.
//   - A thing has at most Options.NamedShadows named shadows. Who makes one takes a place
//     before the commit, which is given back when it turns out not to be stored.
//     With a store that other processes write to, what is known of the places is
//     up to a second old.
//   - A store failure refuses the request with code 500. The outcome is then
//     unknown, so the document is read again before it is used, and a version
//     that did get stored is announced as soon as the store answers.
package things
