package node

import "github.com/anabranch-db/anabranch/replica"

func clockStatus(c replica.ClockStatus) Clock {
	out := Clock{State: c.State(), OffsetMS: c.Offset.Milliseconds(), Peers: c.Peers, AheadOf: c.Ahead, BehindOf: c.Behind}
	for _, h := range c.Held {
		held := Held{Space: h.Space, Until: h.Until, Reason: h.Reason}
		for _, p := range h.WaitsFor {
			held.WaitsFor = append(held.WaitsFor, p.String())
		}
		out.Held = append(out.Held, held)
	}
	return out
}
