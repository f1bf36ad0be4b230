package crdttest

import "pgregory.net/rapid"

// Source is where a history takes its decisions from. A *rand.Rand of math/rand/v2 is one.
type Source interface {
	// IntN returns a number in [0, n).
	IntN(n int) int
}

// Rapid returns a source whose decisions rapid records, and makes smaller when a test fails.
func Rapid(t *rapid.T) Source { return rapidSource{t} }

type rapidSource struct{ t *rapid.T }

func (s rapidSource) IntN(n int) int { return rapid.IntRange(0, n-1).Draw(s.t, "choice") }
