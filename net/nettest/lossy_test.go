package nettest

import (
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// sink notes when packets were written.
type sink struct {
	net.PacketConn
	start time.Time

	mu      sync.Mutex
	packets []packet
}

type packet struct {
	number byte
	after  time.Duration
}

func (s *sink) WriteTo(b []byte, _ net.Addr) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.packets = append(s.packets, packet{b[0], time.Since(s.start)})
	return len(b), nil
}

func (s *sink) Close() error { return nil }

func send(seed uint64, loss Loss) ([]packet, LossCounts) {
	s := &sink{start: time.Now()}
	c := NewLossyPacketConn(s, seed, loss)
	for i := range 200 {
		_, _ = c.WriteTo([]byte{byte(i)}, nil)
		time.Sleep(time.Millisecond) // virtual
	}
	time.Sleep(time.Second)
	synctest.Wait()
	c.Close()
	return s.packets, c.Counts()
}

func TestLossyPacketConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if got, _ := send(1, Loss{}); len(got) != 200 {
			t.Errorf("a good connection passed %d packets of 200", len(got))
		}
		loss := Loss{Drop: 0.2, Duplicate: 0.1, Reorder: 0.1, MinDelay: 10 * time.Millisecond, MaxDelay: 12 * time.Millisecond}
		got, counts := send(7, loss)
		if want := counts.Written - counts.Dropped + counts.Duplicated; len(got) != want || counts.Written != 200 {
			t.Errorf("%d packets went out, want %d (%+v)", len(got), want, counts)
		}
		if counts.Dropped < 20 || counts.Duplicated < 5 || counts.Reordered < 5 {
			t.Errorf("too little happened: %+v", counts)
		}
		swapped := 0
		for i, p := range got {
			if late := p.after - time.Duration(p.number)*time.Millisecond; late < loss.MinDelay || late > loss.MaxDelay+5*time.Millisecond {
				t.Errorf("packet %d was %s under way", p.number, late)
			}
			if i > 0 && got[i-1].number > p.number {
				swapped++
			}
		}
		if swapped == 0 {
			t.Error("no packet overtook another")
		}
		again, _ := send(7, loss)
		other, _ := send(8, loss)
		if !equal(got, again) || equal(got, other) {
			t.Error("what happens does not depend on the seed alone")
		}
	})
}

// equal compares which packets went out, in which order.
func equal(a, b []packet) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].number != b[i].number {
			return false
		}
	}
	return true
}

func TestLossyPacketConnDropsWhatIsUnderWayAtClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{start: time.Now()}
		c := NewLossyPacketConn(s, 1, Loss{MinDelay: time.Minute, MaxDelay: time.Minute})
		for range 2 * maxUnderWay {
			_, _ = c.WriteTo([]byte{1}, nil)
		}
		if got := c.Counts().Dropped; got != maxUnderWay {
			t.Errorf("%d packets were dropped for want of room, want %d", got, maxUnderWay)
		}
		c.Close()
		time.Sleep(time.Hour)
		if len(s.packets) != 0 {
			t.Errorf("%d packets went out after Close", len(s.packets))
		}
	})
}

// A link of 80 kbit/s passes a packet of 100 bytes, headers included, in 10 ms, and keeps those of 50 ms waiting.
func TestLossyPacketConnHasABandwidth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{start: time.Now()}
		c := NewLossyPacketConn(s, 1, Loss{BitsPerSecond: 80_000, Queue: 50 * time.Millisecond, MinDelay: time.Second, MaxDelay: time.Second})
		for range 10 {
			_, _ = c.WriteTo(make([]byte, 100-headerBytes), nil)
		}
		time.Sleep(100 * time.Millisecond)
		_, _ = c.WriteTo(make([]byte, 100-headerBytes), nil)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		c.Close()
		var after []time.Duration
		for _, p := range s.packets {
			after = append(after, p.after)
		}
		const ms = time.Millisecond
		if want := []time.Duration{1010 * ms, 1020 * ms, 1030 * ms, 1040 * ms, 1050 * ms, 1060 * ms, 1110 * ms}; !slices.Equal(after, want) {
			t.Errorf("they pass after %v, want %v", after, want)
		}
		if got := c.Counts(); got.Dropped != 4 || got.Bytes != 1100 {
			t.Errorf("%+v", got)
		}
	})
}
