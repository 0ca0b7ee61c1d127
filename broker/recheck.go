package broker

import (
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/umbra-iot/umbra/internal/auth"
)

// Recheck ends the connections whose principal is not valid any more, and returns how many there were.
func (b *Broker) Recheck(valid func(*auth.Principal) bool) (ended int) {
	now := b.now()
	b.together(func(a *aftermath) {
		for _, cl := range b.clients.all() {
			cl.mu.Lock()
			if k := cl.conn; k != nil && !valid(k.principal) {
				end := cause{code: packets.ErrNotAuthorized.Code, text: packets.ErrNotAuthorized.Reason, reason: reasonShutdown}
				k.stop(end)
				cl.release(&end, now, a)
				cl.settle(now, a)
				ended++
			}
			cl.unlock()
		}
	})
	return ended
}
