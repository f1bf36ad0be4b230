package node

import "github.com/anabranch-db/anabranch/replica"

func clockStatus(c replica.ClockStatus) Clock {
	out := Clock{State: "doubtful", OffsetMS: c.Offset.Milliseconds(), Peers: c.Peers, AheadOf: c.Ahead, BehindOf: c.Behind}
	switch {
	case c.Peers == 0:
		out.State = "unknown"
	case c.Holding:
		out.State = "ahead"
	case c.Sound:
		out.State = "sound"
	case 2*c.Behind > c.Peers:
		out.State = "behind"
	}
	for _, h := range c.Held {
		held := Held{Space: h.Space, Until: h.Until, Reason: h.Reason}
		for _, p := range h.WaitsFor {
			held.WaitsFor = append(held.WaitsFor, p.String())
		}
		out.Held = append(out.Held, held)
	}
	return out
}
