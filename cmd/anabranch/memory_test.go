package main

import (
	"context"
	"math"
	"runtime/debug"
	"testing"
)

func TestMemoryLimitLeavesRoomAboveWhatIsInUse(t *testing.T) {
	for _, live := range []uint64{0, 1 << 20, 100 << 20, nodeMemory, 1 << 30} {
		if got := memoryLimit(live); got < nodeMemory || got < int64(live+live/10) || got < int64(live)+nodeSlack {
			t.Errorf("%d bytes in use: limit %d", live, got)
		}
	}
}

func TestEnvironmentRulesOverMemory(t *testing.T) {
	percent := debug.SetGCPercent(77)
	limit := debug.SetMemoryLimit(math.MaxInt64)
	defer func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	}()
	t.Setenv("GOGC", "77")
	t.Setenv("GOMEMLIMIT", "1GiB")
	tendMemory(context.Background())
	if got := debug.SetGCPercent(77); got != 77 {
		t.Errorf("GOGC became %d", got)
	}
	if got := debug.SetMemoryLimit(-1); got != math.MaxInt64 {
		t.Errorf("the limit became %d", got)
	}

	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	ended, end := context.WithCancel(context.Background())
	end()
	tendMemory(ended)
	if got := debug.SetGCPercent(77); got != nodeGCPercent {
		t.Errorf("GOGC is %d, want %d", got, nodeGCPercent)
	}
	if got := debug.SetMemoryLimit(-1); got < nodeMemory || got == math.MaxInt64 {
		t.Errorf("the limit is %d", got)
	}
}
