package memnet_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/net/nettest"
	"github.com/anabranch-db/anabranch/net/wire"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

func makeNet(t testing.TB, n int, o nettest.Options) *nettest.Net {
	network := memnet.New(1)
	out := new(nettest.Net)
	for i := range n {
		node := network.Node(fmt.Sprint("n", i))
		if o.Allow != nil {
			node.SetAllow(func(peer replica.PeerID) bool { return o.Allow(i, peer) })
		}
		if o.Now != nil {
			node.SetNow(func() time.Time { return o.Now(i) })
		}
		t.Cleanup(func() { node.Close() })
		out.Transports = append(out.Transports, node)
	}
	// Here the end of the IdleTimeout comes at once; TestCutLink waits for it in virtual time.
	out.Silence = func(i int) {
		for j, other := range out.Transports {
			if i != j {
				network.Break(out.Transports[i].Self(), other.Self())
			}
		}
	}
	return out
}

func TestTransport(t *testing.T) { nettest.Run(t, makeNet) }

func BenchmarkTransport(b *testing.B) { nettest.Bench(b, makeNet) }

// world is two nodes with a connection and a stream, in a bubble.
type world struct {
	*memnet.Network
	a, b   *memnet.Transport
	ca, cb replica.Conn
	sa, sb replica.Stream
}

func inBubble(t *testing.T, faults memnet.Faults, run func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(1)
		w := &world{Network: network, a: network.Node("a"), b: network.Node("b")}
		network.SetFaults(faults)
		w.connect(t)
		run(t, w)
		w.a.Close()
		w.b.Close()
	})
}

func (w *world) connect(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	var err error
	if w.ca, err = w.a.Dial(ctx, "mem:b", w.b.Self()); err != nil {
		t.Fatal(err)
	}
	if w.cb, err = w.b.Accept(ctx); err != nil {
		t.Fatal(err)
	}
	if w.sa, err = w.ca.OpenStream(ctx, "s"); err != nil {
		t.Fatal(err)
	}
	if _, w.sb, err = w.cb.AcceptStream(ctx); err != nil {
		t.Fatal(err)
	}
}

func frame(t *testing.T, number int) []byte {
	t.Helper()
	b, err := wire.Marshal(nil, &protocol.Refusal{Code: 1, Text: fmt.Sprint(number)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCutLink(t *testing.T) {
	t.Run("what was under way arrives if it heals soon", func(t *testing.T) {
		inBubble(t, memnet.Faults{}, func(t *testing.T, w *world) {
			w.Cut(w.a.Self(), w.b.Self())
			if err := w.sa.WriteFrames(frame(t, 1)); err != nil {
				t.Fatal(err)
			}
			healed := time.Now().Add(memnet.IdleTimeout - time.Second)
			go func() { time.Sleep(time.Until(healed)); w.Heal() }()
			if _, err := w.sb.ReadFrame(); err != nil {
				t.Fatal(err)
			}
			if !time.Now().Equal(healed) {
				t.Errorf("the frame came at %s, the link healed at %s", time.Now(), healed)
			}
			time.Sleep(time.Hour)
			if w.ca.Err() != nil || w.cb.Err() != nil {
				t.Errorf("the connection ended though the link healed: %v, %v", w.ca.Err(), w.cb.Err())
			}
		})
	})
	t.Run("connections end after the idle timeout", func(t *testing.T) {
		inBubble(t, memnet.Faults{}, func(t *testing.T, w *world) {
			start := time.Now()
			w.Cut(w.a.Self(), w.b.Self())
			if _, err := w.sb.ReadFrame(); err == nil {
				t.Error("ReadFrame over a cut link gave no error")
			}
			<-w.ca.Done()
			<-w.cb.Done()
			if took := time.Since(start); took != memnet.IdleTimeout {
				t.Errorf("it took %s, want %s", took, memnet.IdleTimeout)
			}
			if w.Connections() != 0 {
				t.Errorf("%d connections are left", w.Connections())
			}
		})
	})
	t.Run("a close is not heard", func(t *testing.T) {
		inBubble(t, memnet.Faults{}, func(t *testing.T, w *world) {
			w.Cut(w.a.Self(), w.b.Self())
			w.ca.Close(replica.CloseDone, "")
			<-w.ca.Done()
			if w.cb.Err() != nil {
				t.Fatalf("the peer heard of it: %v", w.cb.Err())
			}
			<-w.cb.Done()
			var closed *replica.CloseError
			if errors.As(w.cb.Err(), &closed) {
				t.Errorf("the peer heard of it later: %v", closed)
			}
		})
	})
	t.Run("Dial gives up", func(t *testing.T) {
		inBubble(t, memnet.Faults{}, func(t *testing.T, w *world) {
			w.Cut(w.b.Self(), w.a.Self())
			start := time.Now()
			if _, err := w.a.Dial(t.Context(), "mem:b", replica.PeerID{}); err == nil || time.Since(start) != memnet.DialTimeout {
				t.Errorf("after %s: %v", time.Since(start), err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := w.a.Dial(ctx, "mem:b", replica.PeerID{}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("with a deadline: %v", err)
			}
		})
	})
}

func TestPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(1)
		names := []string{"a", "b", "c", "d"}
		nodes := map[string]*memnet.Transport{}
		for _, name := range names {
			nodes[name] = network.Node(name)
		}
		reaches := func(from, to string) bool {
			c, err := nodes[from].Dial(t.Context(), "mem:"+to, memnet.ID(to))
			if err == nil {
				c.Close(replica.CloseDone, "")
				_, err = nodes[to].Accept(t.Context())
			}
			return err == nil
		}
		check := func(what string, together ...string) {
			t.Helper()
			for _, from := range names {
				for _, to := range names {
					want := false
					for _, group := range together {
						want = want || contains(group, from) && contains(group, to)
					}
					if from != to && reaches(from, to) != want {
						t.Errorf("%s: %s reaches %s: %v, want %v", what, from, to, !want, want)
					}
				}
			}
		}
		check("at first", "abcd")
		network.Partition([]replica.PeerID{memnet.ID("a"), memnet.ID("b")}, []replica.PeerID{memnet.ID("c")})
		check("two groups and one alone", "ab")
		network.Partition([]replica.PeerID{memnet.ID("b"), memnet.ID("c"), memnet.ID("d")})
		check("another partition", "bcd")
		network.Heal()
		check("healed", "abcd")
		for _, n := range nodes {
			n.Close()
		}
	})
}

func contains(group, name string) bool {
	for _, c := range group {
		if string(c) == name {
			return true
		}
	}
	return false
}

func TestBreakLosesWhatIsUnderWay(t *testing.T) {
	inBubble(t, memnet.Faults{}, func(t *testing.T, w *world) {
		if err := w.sa.WriteFrames(frame(t, 1)); err != nil {
			t.Fatal(err)
		}
		w.Break(w.b.Self(), w.a.Self())
		if _, err := w.sb.ReadFrame(); err == nil {
			t.Error("a frame survived the break")
		}
		if err := w.sa.WriteFrames(frame(t, 2)); err == nil {
			t.Error("WriteFrames after the break gave no error")
		}
		w.connect(t) // and again
		if err := w.sa.WriteFrames(frame(t, 3)); err != nil {
			t.Error(err)
		}
	})
}

func TestFaultsBreakAfterTheSameNumberOfFrames(t *testing.T) {
	counts := func() (list []int) {
		inBubble(t, memnet.Faults{}, func(t *testing.T, w *world) {
			w.BreakAll()
			w.SetFaults(memnet.Faults{BreakAfter: 20})
			for range 20 {
				for !w.tryConnect(t) {
				}
				n := 0
				for w.sa.WriteFrames(frame(t, n)) == nil {
					n++
				}
				list = append(list, n)
				if w.cb.Err() == nil {
					t.Error("the other end is still up")
				}
			}
		})
		return list
	}
	first := counts()
	sum, least, most := 0, first[0], first[0]
	for _, n := range first {
		sum, least, most = sum+n, min(least, n), max(most, n)
	}
	if mean := sum / len(first); mean < 8 || mean > 35 || least == most {
		t.Errorf("connections broke after %v frames, want about 20, and not always the same", first)
	}
	if again := counts(); fmt.Sprint(again) != fmt.Sprint(first) {
		t.Errorf("the same seed gave %v, then %v", first, again)
	}
}

// tryConnect connects, unless the fault comes first.
func (w *world) tryConnect(t *testing.T) bool {
	var err error
	if w.ca, err = w.a.Dial(t.Context(), "mem:b", w.b.Self()); err != nil {
		t.Fatal(err)
	}
	if w.cb, err = w.b.Accept(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.sa, err = w.ca.OpenStream(t.Context(), "s"); err != nil {
		return false
	}
	_, w.sb, err = w.cb.AcceptStream(t.Context())
	return err == nil
}

func TestDelay(t *testing.T) {
	faults := memnet.Faults{MinDelay: 10 * time.Millisecond, MaxDelay: 30 * time.Millisecond}
	inBubble(t, faults, func(t *testing.T, w *world) {
		seen := map[time.Duration]bool{}
		for i := range 100 {
			start := time.Now()
			if err := w.sa.WriteFrames(frame(t, i), frame(t, i)); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took != 0 {
				t.Errorf("WriteFrames took %s", took)
			}
			if _, err := w.sb.ReadFrame(); err != nil {
				t.Fatal(err)
			}
			took := time.Since(start)
			if took < faults.MinDelay || took > faults.MaxDelay {
				t.Errorf("a frame was %s under way", took)
			}
			seen[took] = true
			if _, err := w.sb.ReadFrame(); err != nil {
				t.Fatal(err)
			}
		}
		if len(seen) < 20 {
			t.Errorf("only %d different delays", len(seen))
		}
	})
}
