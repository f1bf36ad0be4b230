package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Bounds for the memory of a process that serves a node. Most of it is a few large buffers of the store, which are cheap to
// collect: they hold no pointers. By default the collector lets as much garbage gather as there is in use, and each
// compaction then leaves the process hundreds of megabytes larger than it needs to be.
const (
	nodeMemory     = 128 << 20 // for the collector: the store's mapped files come on top
	nodeSlack      = 32 << 20  // above what is in use: with less the collector does little else, with more there is more garbage
	nodeGCPercent  = 30
	memoryInterval = time.Second
)

// tendMemory sets the collector up for a node and returns when ctx ends. What the environment says by GOGC or GOMEMLIMIT
// is left alone.
func tendMemory(ctx context.Context) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(nodeGCPercent)
	}
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(memoryInterval)
	defer tick.Stop()
	for {
		metrics.Read(live)
		debug.SetMemoryLimit(memoryLimit(live[0].Value.Uint64()))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// memoryLimit returns the limit for a heap of which so many bytes are in use. It is soft, but near it the collector would
// run all the time; so a node that needs more, with many peers for instance, gets more.
func memoryLimit(live uint64) int64 {
	return max(nodeMemory, int64(live+max(live/8, nodeSlack)))
}
