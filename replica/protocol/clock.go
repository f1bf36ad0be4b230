package protocol

import "time"

// Clock asks for the peer's wall clock, or tells the own one. So a session that lasts for weeks notices a clock that is set
// meanwhile. It has nothing to do with what is exchanged, and neither side waits for it.
type Clock struct {
	// Asked is any number that the asking side chose, told back.
	Asked uint64
	// Wall is the teller's clock, to the millisecond; zero in a question.
	Wall time.Time
}

func (*Clock) message() {}

// IsQuestion reports whether c asks.
func (c *Clock) IsQuestion() bool { return c.Wall.IsZero() }

// clocks is what is to be sent about clocks: one question and one answer at most, whatever the peer sends.
type clocks struct{ question, answer *Clock }

// AskClock asks for the peer's clock. A question that was not sent yet is replaced.
func (s *Session) AskClock(asked uint64) { s.clocks.question = &Clock{Asked: asked} }

// TellClock answers a question. An answer that was not sent yet is replaced.
func (s *Session) TellClock(asked uint64, wall time.Time) {
	s.clocks.answer = &Clock{Asked: asked, Wall: wall}
}

func (s *Session) nextClock() Message {
	c := &s.clocks
	switch {
	case c.answer != nil:
		m := c.answer
		c.answer = nil
		return m
	case c.question != nil:
		m := c.question
		c.question = nil
		return m
	}
	return nil
}
