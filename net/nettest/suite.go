package nettest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// Options say what the nodes of one test are like.
type Options struct {
	// Allow reports whether the i-th node lets peer connect; nil: everybody may.
	Allow func(i int, peer replica.PeerID) bool
	// Now is the wall clock of the i-th node; nil: time.Now for all.
	Now func(i int) time.Time
}

// Net is a set of nodes that listen and can reach each other.
type Net struct {
	Transports []replica.Transport
	// Silence makes all that node i sends vanish from now on. Connections to it have to end within some seconds.
	Silence func(i int)
}

// Maker makes n nodes with different identities, and closes them when the test ends.
type Maker func(t testing.TB, n int, o Options) *Net

// Run runs the suite.
func Run(t *testing.T, make Maker) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Maker)
	}{
		{"Dial and Accept prove who is there", testIdentity},
		{"the expected peer is not there", testWrongPeer},
		{"a peer that is not allowed is refused", testNotAllowed},
		{"a peer that the dialler does not allow is refused", testDialNotAllowed},
		{"a node that is not known may ask to join", testJoin},
		{"a node refuses itself", testSameIdentity},
		{"nobody listens", testNobody},
		{"clock skew is seen from both sides", testSkew},
		{"what is told beside the streams is heard in order", testControl},
		{"streams are named by space", testSpaces},
		{"bad space names are refused", testSpaceNames},
		{"frames keep their order in both directions at once", testOrder},
		{"frames near the limit pass", testLargeFrame},
		{"a frame over the limit is refused before it is read", testOverLimit},
		{"many streams at once", testManyStreams},
		{"a slow reader blocks the writer", testBackpressure},
		{"a stream that ends gives EOF after the last frame", testStreamEnd},
		{"a stream closed with a code gives the code after the last frame", testStreamCode},
		{"closing a stream unblocks readers and writers", testCloseUnblocks},
		{"closing a connection tells code and reason", testConnClose},
		{"closing a connection unblocks everybody", testConnCloseUnblocks},
		{"closing a transport ends its connections", testTransportClose},
		{"a silent peer is found dead", testSilence},
		{"contexts end Dial, Accept, OpenStream and AcceptStream", testContexts},
		{"more streams than allowed wait for others to end", testStreamLimit},
		{"two connections between one pair are independent", testTwoConnections},
		{"traffic is counted", testTraffic},
		{"messages pass", testMessages},
	} {
		t.Run(test.name, func(t *testing.T) {
			// Registered first, so that it runs after everything is closed.
			now := goleak.IgnoreCurrent()
			t.Cleanup(func() { goleak.VerifyNone(t, now) })
			test.run(t, make)
		})
	}
}

// patience is how long a test waits for what should come at once.
const patience = 20 * time.Second

func withPatience(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// connect dials from node a to node b and returns both ends.
func connect(t testing.TB, a, b replica.Transport) (dialler, accepter replica.Conn) {
	t.Helper()
	ctx := withPatience(t)
	type accepted struct {
		c   replica.Conn
		err error
	}
	got := make(chan accepted, 1)
	go func() {
		c, err := b.Accept(ctx)
		got <- accepted{c, err}
	}()
	dialler, err := a.Dial(ctx, b.Addrs()[0], b.Self())
	if err != nil {
		t.Fatalf("Dial: %v", err)
	}
	r := <-got
	if r.err != nil {
		t.Fatalf("Accept: %v", r.err)
	}
	return dialler, r.c
}

// open opens a stream from a and returns both ends.
func open(t testing.TB, a, b replica.Conn, space string) (opener, accepter replica.Stream) {
	t.Helper()
	ctx := withPatience(t)
	opener, err := a.OpenStream(ctx, space)
	if err != nil {
		t.Fatalf("OpenStream: %v", err)
	}
	got, accepter, err := b.AcceptStream(ctx)
	if err != nil {
		t.Fatalf("AcceptStream: %v", err)
	}
	if got != space {
		t.Fatalf("AcceptStream: space %q, want %q", got, space)
	}
	return opener, accepter
}

func pair(t testing.TB, make Maker) (a, b replica.Conn, n *Net) {
	t.Helper()
	n = make(t, 2, Options{})
	a, b = connect(t, n.Transports[0], n.Transports[1])
	return a, b, n
}

// frame returns a whole frame that says number, padded to about size bytes.
func frame(t testing.TB, tr replica.Transport, number uint64, size int) []byte {
	t.Helper()
	m := &protocol.Delta{Delta: crdt.Delta{Origin: 1, From: hlc.Time(number), To: hlc.Time(number)}}
	if size > 0 {
		m.Documents = []crdt.DocumentDelta{{Key: "pad", Cells: make([]byte, size)}}
	}
	b, err := tr.Marshal(nil, m)
	if err != nil {
		t.Fatalf("Marshal: %v", err)
	}
	return b
}

// number is the inverse of frame.
func number(tr replica.Transport, b []byte) (uint64, error) {
	m, err := tr.Unmarshal(b)
	if err != nil {
		return 0, err
	}
	d, ok := m.(*protocol.Delta)
	if !ok {
		return 0, fmt.Errorf("message of type %T", m)
	}
	return uint64(d.From), nil
}

// readNumber reads one frame and fails unless it says want.
func readNumber(t testing.TB, tr replica.Transport, s replica.Stream, want uint64) {
	t.Helper()
	b, err := s.ReadFrame()
	if err != nil {
		t.Fatalf("ReadFrame: %v", err)
	}
	if got, err := number(tr, b); err != nil || got != want {
		t.Fatalf("frame says %d (%v), want %d", got, err, want)
	}
}

// wantClose fails unless err is a *replica.CloseError as described.
func wantClose(t testing.TB, what string, err error, code replica.CloseCode, remote bool) *replica.CloseError {
	t.Helper()
	var closed *replica.CloseError
	if !errors.As(err, &closed) {
		t.Fatalf("%s: %v, want a *replica.CloseError", what, err)
	}
	if closed.Code != code || closed.Remote != remote {
		t.Fatalf("%s: %+v (%v), want code %v, remote %v", what, closed, err, code, remote)
	}
	return closed
}

// within fails unless what happens soon.
func within(t testing.TB, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s: did not happen within %s", what, patience)
	}
}

// inBackground runs f and returns where its error will be.
func inBackground(f func() error) <-chan error {
	c := make(chan error, 1)
	go func() { c <- f() }()
	return c
}

func await(t testing.TB, what string, c <-chan error) error {
	t.Helper()
	select {
	case err := <-c:
		return err
	case <-time.After(patience):
		t.Fatalf("%s: did not return within %s", what, patience)
		return nil
	}
}
