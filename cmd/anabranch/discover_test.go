//go:build linux

package main

import (
	"testing"
	"time"
)

// TestNodesFindEachOtherOnTheLocalNetwork gives two nodes, each in a network namespace of its own, each other's ID and no address.
func TestNodesFindEachOtherOnTheLocalNetwork(t *testing.T) {
	nodes := newNetNodes(t, newWires(t, 2))
	for i, n := range nodes {
		n.peers = []string{"--discover", "--allow", nodes[1-i].id}
		n.start()
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for giveUp := time.After(patience); ; {
		st := nodes[0].status()
		if st != nil && len(st.Peers) == 1 && st.Peers[0].Connected {
			break
		}
		select {
		case <-tick.C:
		case <-giveUp:
			t.Fatalf("they do not find each other: %+v", st)
		}
	}
	command(t, "--dir", nodes[0].dir, "put", "apple", "{}", "--synced", "1")
}
