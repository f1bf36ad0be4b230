//go:build unix

package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/procfs"

	"github.com/anabranch-db/anabranch/replica"
)

// Load is made by a second process of the test program, so that what is measured of this one is the node alone.

// crowdVariable has what the second process is to do, as JSON of a crowd.
const crowdVariable = "ANABRANCH_GATEWAY_CROWD"

// crowd is the clients of the second process.
type crowd struct {
	URL     string
	Idle    int // follow what does not change
	Active  int // follow what does
	Changes int // that each active one waits for
	Peers   int // replicas, each connected with the node alone; they count as active ones
	Slow    int // of the peers, that take one kilobyte a second, and are not waited for
	Node    replica.Peer
}

// crowdReport is what the active ones saw: how long after its write began a change was there.
type crowdReport struct {
	Count         int
	P50, P99, Max time.Duration
	spent         time.Duration // by the node's process, of processor time
	whole         time.Duration // from the first write until all had all
}

func (c crowd) run() error {
	var mu sync.Mutex
	var all []time.Duration
	var connected, finished sync.WaitGroup
	dialling := make(chan struct{}, 16)
	failed := make(chan error, 1)
	fail := func(err error) {
		select {
		case failed <- err:
		default:
		}
	}
	for i := range c.Idle + c.Active + c.Peers {
		connected.Add(1)
		finished.Add(1)
		dialling <- struct{}{}
		go func() {
			there := func() { <-dialling; connected.Done() }
			var took []time.Duration
			var err error
			if i < c.Idle+c.Active {
				took, err = c.follow(i >= c.Idle, there)
			} else {
				took, err = c.replicate(i-c.Idle-c.Active < c.Slow, there)
			}
			if err != nil {
				fail(fmt.Errorf("client %d: %w", i, err))
			}
			mu.Lock()
			all = append(all, took...)
			mu.Unlock()
			finished.Done()
		}()
	}
	go func() { connected.Wait(); fmt.Println("ready"); finished.Wait(); fail(nil) }()
	if err := <-failed; err != nil {
		return err
	}
	slices.Sort(all)
	r := crowdReport{Count: len(all)}
	if len(all) > 0 {
		r.P50, r.P99, r.Max = all[len(all)/2], all[len(all)*99/100], all[len(all)-1]
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// follow is one client. It returns when it has seen all that it is to see; the connection stays, and answers pings.
func (c crowd) follow(active bool, connected func()) (took []time.Duration, err error) {
	ctx := context.Background()
	conn, _, err := websocket.Dial(ctx, c.URL+"/v1/ws", &websocket.DialOptions{Subprotocols: []string{subprotocol}})
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(maxMessageBytes)
	prefix := "idle/"
	if active {
		prefix = "live/"
	}
	for _, text := range []string{`{"type":"hello","token":"read"}`, `{"type":"subscribe","sub":"a","space":"notes","prefix":"` + prefix + `","credit":1000}`} {
		if err := conn.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
			return nil, err
		}
	}
	level := false
	for {
		_, text, err := conn.Read(ctx)
		if err != nil {
			return nil, err
		}
		now := time.Now().UnixNano()
		if !level {
			if level = strings.Contains(string(text), `"type":"level"`); level {
				connected()
				if !active {
					go func() { _, _, _ = conn.Read(ctx) }()
					return nil, nil
				}
			}
			continue
		}
		rest := string(text)
		for {
			_, after, ok := strings.Cut(rest, `"sent":"`)
			if !ok {
				break
			}
			digits, _, _ := strings.Cut(after, `"`)
			rest = after
			sent, err := strconv.ParseInt(digits, 10, 64)
			if err != nil {
				return nil, err
			}
			took = append(took, time.Duration(now-sent))
		}
		if strings.Contains(string(text), `"last":true`) {
			go func() { _, _, _ = conn.Read(ctx) }()
			return took, nil
		}
	}
}

func init() { secondProcess = runCrowd }

// runCrowd runs when this is the second process.
func runCrowd() (ran bool, err error) {
	text := os.Getenv(crowdVariable)
	if text == "" {
		return false, nil
	}
	var c crowd
	if err = json.Unmarshal([]byte(text), &c); err == nil {
		err = c.run()
	}
	if err == nil {
		_, _ = os.Stdin.Read(make([]byte, 1)) // the connections stay until the first process has looked
	}
	return true, err
}

// load has a node of its own, and a crowd that follows it, make so many changes, and reports what the crowd saw and what the node's
// process takes.
func load(tb testing.TB, c crowd, every time.Duration) (crowdReport, int64) {
	tb.Helper()
	rc := replica.Config{}
	if c.Peers > 0 {
		rc.Transport, rc.Sync = transportOf(tb), replica.SyncNever
		c.Node = replica.Peer{ID: rc.Transport.Self(), Addr: rc.Transport.Addrs()[0]}
	}
	n := newNode(tb, Config{Limits: Limits{Streams: 1 << 20, PerSecond: 1 << 20}}, rc)
	c.URL = n.server.URL
	arg, err := json.Marshal(c)
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crowdVariable+"="+string(arg))
	cmd.Stderr = os.Stderr
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		tb.Fatal(err)
	}
	defer cmd.Wait()
	defer stdin.Close()
	lines := bufio.NewScanner(stdout)
	line := func() string {
		if !lines.Scan() {
			tb.Fatal("the crowd has gone")
		}
		return lines.Text()
	}
	if got := line(); got != "ready" {
		tb.Fatal(got)
	}
	debug.FreeOSMemory()
	idle := resident(tb)
	before, spent := n.gateway.encoded.Load(), processorTime()
	if b, ok := tb.(*testing.B); ok {
		b.ResetTimer()
	}
	began := time.Now()
	for i := range c.Changes {
		n.update(func(tx *replica.Tx) {
			d := tx.Doc("live/" + fmt.Sprint(i))
			d.Replace(map[string]any{"sent": fmt.Sprint(time.Now().UnixNano()), "title": "milk", "done": false, "last": i == c.Changes-1, "n": i})
		})
		if every > 0 {
			<-time.After(every)
		}
	}
	var r crowdReport
	text := line()
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		tb.Fatal(text)
	}
	if got := n.gateway.encoded.Load() - before; got != int64(c.Changes) {
		tb.Errorf("%d changes were encoded %d times", c.Changes, got)
	}
	r.spent, r.whole = processorTime()-spent, time.Since(began)
	tb.Logf("%d idle and %d active: %d MiB resident with all connected, %d MiB after %d changes", c.Idle, c.Active, idle>>20, resident(tb)>>20, c.Changes)
	return r, resident(tb)
}

// processorTime returns what this process has used.
func processorTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// resident returns the resident memory of this process.
func resident(tb testing.TB) int64 {
	self, err := procfs.Self()
	if err != nil {
		tb.Skip("the system does not tell how much memory is resident:", err)
	}
	status, err := self.NewStatus()
	if err != nil {
		tb.Fatal(err)
	}
	return int64(status.VmRSS)
}

// BenchmarkThousandSubscribers: one change, a transaction in memory, reaches 1,000 WebSockets of another process. The times are from the
// beginning of the write to the return of the client's read. Run it with -benchtime=500x.
func BenchmarkThousandSubscribers(b *testing.B) {
	r, _ := load(b, crowd{Active: 1000, Changes: b.N}, 300*time.Millisecond)
	if r.Count != 1000*b.N {
		b.Errorf("%d of %d arrived", r.Count, 1000*b.N)
	}
	b.ReportMetric(float64(r.P50.Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(r.P99.Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(r.spent.Nanoseconds())/1000/1000/float64(b.N), "node-cpu-µs/delivery")
	b.ReportMetric(float64(r.Max.Microseconds())/1000, "max-ms")
}

// TestManySubscribersTakeLittleMemory is for the long checks: ANABRANCH_SUBSCRIBERS says how many are idle, a tenth of them more are active.
func TestManySubscribersTakeLittleMemory(t *testing.T) {
	idle, err := strconv.Atoi(os.Getenv("ANABRANCH_SUBSCRIBERS"))
	if err != nil {
		t.Skip("ANABRANCH_SUBSCRIBERS is not set")
	}
	r, used := load(t, crowd{Idle: idle, Active: idle / 10, Changes: 200}, 50*time.Millisecond)
	t.Logf("p50 %s, p99 %s, max %s", r.P50, r.P99, r.Max)
	if used > 500<<20 {
		t.Errorf("the node takes %d MiB", used>>20)
	}
}

// BenchmarkCompression says what compressing the messages costs, and saves, in the ways that the library has.
func BenchmarkCompression(b *testing.B) {
	one := []byte(`{"type":"changes","sub":"a","items":[{"key":"todo/1234","cursor":"86f0e06d37025386-48213","doc":{"done":false,"n":41,"title":"milk"},"dots":{"5dzA3yVpXtwBohXjaYMAAA":true},"at":1790000000000,"author":"86f0e06d37025386"}],"cursor":"86f0e06d37025386-48213"}`)
	many := []byte(`{"type":"changes","sub":"a","items":[`)
	for i := range 500 {
		many = fmt.Appendf(many, `{"key":"todo/%d","cursor":"86f0e06d37025386-%d","doc":{"done":false,"n":%d,"title":"milk"},"dots":{"5dzA3yVp%06dohXjaYMAAA":true},"at":1790000%06d,"author":"86f0e06d37025386"},`, i*7919, i+10000, i*i, i*104729, i*7907)
	}
	for _, mode := range []struct {
		name string
		mode websocket.CompressionMode
	}{{"off", websocket.CompressionDisabled}, {"each-alone", websocket.CompressionNoContextTakeover}, {"with-context", websocket.CompressionContextTakeover}} {
		for name, text := range map[string][]byte{"one-change": one, "catch-up": many} {
			b.Run(name+"/"+mode.name, func(b *testing.B) { compress(b, mode.mode, text) })
		}
	}
}

func compress(b *testing.B, mode websocket.CompressionMode, text []byte) {
	begin := make(chan int)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: mode, CompressionThreshold: 64})
		if err != nil {
			b.Error(err)
			return
		}
		for range <-begin {
			if err := conn.Write(r.Context(), websocket.MessageText, text); err != nil {
				b.Error(err)
				return
			}
		}
		conn.Close(websocket.StatusNormalClosure, "")
	}))
	defer server.Close()
	var wire atomic.Int64
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		return countedConn{conn, &wire}, err
	}}
	defer transport.CloseIdleConnections()
	conn, _, err := websocket.Dial(context.Background(), server.URL, &websocket.DialOptions{CompressionMode: mode, HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		b.Fatal(err)
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxMessageBytes)
	wire.Store(0)
	b.ResetTimer()
	begin <- b.N
	for range b.N {
		if _, _, err := conn.Read(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(wire.Load())/float64(b.N), "wire-B/op")
	b.ReportMetric(float64(len(text)), "text-B/op")
}

// countedConn counts what is read.
type countedConn struct {
	net.Conn
	n *atomic.Int64
}

func (c countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.n.Add(int64(n))
	return n, err
}
