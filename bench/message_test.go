package bench

import "testing"

// BenchmarkMessagePath measures plain QoS 1 messages from a publisher to one subscriber, for sessions that end with
// their connection and for sessions that outlive it, whose messages are stored.
func BenchmarkMessagePath(b *testing.B) {
	if b.N > 1 {
		return // see BenchmarkUpdatePath
	}
	clean := umbraServer(b, "umbra clean", "pebble:"+diskDir(b))
	stored := umbraServer(b, "umbra pebble", "pebble:"+diskDir(b))
	redis := redisServer(b, "umbra redis fsync", "always")
	clean.traffic, stored.traffic, redis.traffic = plain, kept, kept
	measureAll(b, []*server{bareServer(b), clean, stored, redis})
}

// kept is plain with sessions that outlive their connections.
func kept(run string) traffic {
	t := plain(run)
	t.keep = true
	return t
}
