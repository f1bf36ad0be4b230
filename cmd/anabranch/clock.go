package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
)

// printClock says what is wrong with the clock, if anything is, and what waits for that.
func printClock(w io.Writer, c node.Clock) {
	off := (time.Duration(c.OffsetMS) * time.Millisecond).Round(time.Second).Abs()
	switch c.State {
	case "ahead":
		fmt.Fprintf(w, "Clock:    AHEAD by %s of %d of %s: what is written here is held until the clock is corrected\n", off, c.AheadOf, list(int64(c.Peers), "peer", "peers"))
	case "behind":
		fmt.Fprintf(w, "Clock:    BEHIND by %s of %d of %s: their writes are refused until the clock is corrected\n", off, c.BehindOf, list(int64(c.Peers), "peer", "peers"))
	case "doubtful":
		fmt.Fprintf(w, "Clock:    IN DOUBT: ahead of %d and behind %d of %s\n", c.AheadOf, c.BehindOf, list(int64(c.Peers), "peer", "peers"))
	}
	printHeld(w, c.Held)
}

func printHeld(w io.Writer, held []node.Held) {
	for _, h := range held {
		fmt.Fprintf(w, "Held:     writes in %s with times up to %s: %s", printable(h.Space), h.Until.Local().Format(time.DateTime), h.Reason)
		if len(h.WaitsFor) > 0 {
			ids := make([]string, len(h.WaitsFor))
			for i, id := range h.WaitsFor {
				ids[i] = shortID(id)
			}
			fmt.Fprintf(w, " (%s)", strings.Join(ids, ", "))
		}
		fmt.Fprintln(w)
	}
}
