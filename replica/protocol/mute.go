package protocol

// Mute says whether this side sends no writes: the peer would refuse them, for this node may only read the space. It goes on
// to receive, to acknowledge, and to compare.
func (s *Session) Mute(mute bool) { s.muted = mute }
