package gateway

import (
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
)

// Stats are the numbers of a Gateway. Counts are since it was made.
type Stats struct {
	Requests     uint64            // that were let in by the door, and others
	Connections  map[string]int64  // open now, by channel: websocket, sse, longpoll
	Items        map[string]uint64 // change items sent, by channel
	Transactions map[string]uint64 // of clients, by result: accepted, duplicate, rejected, retry
	Refused      map[string]uint64 // requests and messages that were refused, by code
}

// meter counts what a Gateway does.
type meter struct {
	requests atomic.Uint64

	mu           sync.Mutex
	connections  map[string]int64
	itemsSent    map[string]uint64
	transactions map[string]uint64
	refusals     map[string]uint64
}

func newMeter() *meter {
	return &meter{
		connections: make(map[string]int64), itemsSent: make(map[string]uint64),
		transactions: make(map[string]uint64), refusals: make(map[string]uint64),
	}
}

// connected counts a connection of a channel (websocket, sse, longpoll) until done is called.
func (m *meter) connected(channel string) (done func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.connections[channel]++
	return sync.OnceFunc(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.connections[channel]--
	})
}

// items counts change items that were sent over a channel.
func (m *meter) items(channel string, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.itemsSent[channel] += uint64(n)
}

// transaction counts a client's transaction by its result: accepted, duplicate, rejected or retry.
func (m *meter) transaction(result string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.transactions[result]++
}

// refused counts a refusal by its code. The codes are ours, so they are few.
func (m *meter) refused(code string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refusals[code]++
}

// Stats returns the numbers.
func (g *Gateway) Stats() Stats {
	m := g.meter
	m.mu.Lock()
	defer m.mu.Unlock()
	return Stats{
		Requests: m.requests.Load(), Connections: maps.Clone(m.connections), Items: maps.Clone(m.itemsSent),
		Transactions: maps.Clone(m.transactions), Refused: maps.Clone(m.refusals),
	}
}

// watch counts a request, and what writeProblem says of it.
func (m *meter) watch(w http.ResponseWriter) http.ResponseWriter {
	m.requests.Add(1)
	return &watched{w, m}
}

// watched is a ResponseWriter whose refusals are counted. What else the wrapped one can, http.ResponseController finds.
type watched struct {
	http.ResponseWriter
	meter *meter
}

func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *watched) refused(code string) { w.meter.refused(code) }
