package hlc_test

import (
	"fmt"

	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// Two nodes whose physical clocks differ by 30 seconds. What B writes after it has seen a write of A is later than
// that, although B's clock is behind.
func Example() {
	var a, b hlc.Clock
	written, _ := a.Tick(hlc.FromUnixMilli(1_790_000_030_000))
	fmt.Println("A:", written)

	now := hlc.FromUnixMilli(1_790_000_000_000) // B's physical clock
	if err := hlc.Check(written, now, hlc.DefaultMaxDrift); err != nil {
		fmt.Println(err)
	}
	b.Observe(written)
	reply, _ := b.Tick(now)
	fmt.Println("B:", reply)
	// Output:
	// A: 2026-09-21T14:13:50.000Z+0
	// B: 2026-09-21T14:13:50.000Z+1
}
