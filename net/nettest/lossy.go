package nettest

import (
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Loss says what a LossyPacketConn does to the packets written to it. The zero value does nothing.
type Loss struct {
	Drop, Duplicate, Reorder float64       // probabilities
	MinDelay, MaxDelay       time.Duration // of every packet
	// HoldBack is how much later a reordered packet goes out; zero means 5 ms.
	HoldBack time.Duration
	// BitsPerSecond is what passes, headers of UDP and IP included; zero means that all does. Packets wait for each other, and one that
	// would have to wait for longer than Queue is dropped; zero means 100 ms.
	BitsPerSecond int
	Queue         time.Duration
}

// headerBytes are those of IPv4 and UDP in front of each packet.
const headerBytes = 28

// maxUnderWay bounds the packets that are delayed at once; further ones are dropped, as a router does.
const maxUnderWay = 4096

// LossyPacketConn is a net.PacketConn that loses, repeats, reorders and delays what is written. What it draws depends on the seed and the
// number of the packet alone. Wrap both ends to make both directions bad.
type LossyPacketConn struct {
	net.PacketConn

	mu       sync.Mutex
	rng      *rand.Rand
	loss     Loss
	free     time.Time // when the last packet that waits will have passed
	closed   bool
	underWay map[*time.Timer]struct{}
	counts   LossCounts
}

// LossCounts says what happened to the packets so far.
type LossCounts struct {
	Written, Dropped, Duplicated, Reordered int
	Bytes                                   int // written, headers of UDP and IP included
}

// NewLossyPacketConn wraps conn, and closes it when it is closed itself.
func NewLossyPacketConn(conn net.PacketConn, seed uint64, loss Loss) *LossyPacketConn {
	return &LossyPacketConn{
		PacketConn: conn, rng: rand.New(rand.NewPCG(seed, 0)), loss: loss.withDefaults(), underWay: map[*time.Timer]struct{}{},
	}
}

func (l Loss) withDefaults() Loss {
	if l.HoldBack == 0 {
		l.HoldBack = 5 * time.Millisecond
	}
	if l.Queue == 0 {
		l.Queue = 100 * time.Millisecond
	}
	return l
}

// SetLoss changes what happens to packets from now on.
func (c *LossyPacketConn) SetLoss(loss Loss) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loss = loss.withDefaults()
}

// Counts returns what happened so far, so that a test can show that something did.
func (c *LossyPacketConn) Counts() LossCounts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts
}

// WriteTo reports success whatever becomes of the packet.
func (c *LossyPacketConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	for _, delay := range c.draw(len(b) + headerBytes) {
		if delay == 0 {
			if _, err := c.PacketConn.WriteTo(b, addr); err != nil {
				return 0, err
			}
			continue
		}
		c.later(delay, append([]byte(nil), b...), addr)
	}
	return len(b), nil
}

// draw returns the delay of each copy of the next packet. It always draws as often, so that one kind of trouble does not change another.
func (c *LossyPacketConn) draw(size int) []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	drop, duplicate, reorder := c.rng.Float64(), c.rng.Float64(), c.rng.Float64()
	spread := c.rng.Float64()
	c.counts.Written++
	c.counts.Bytes += size
	wait, ok := c.pass(size)
	if !ok {
		c.counts.Dropped++
		return nil
	}
	if drop < c.loss.Drop {
		c.counts.Dropped++
		return nil
	}
	delay := wait + c.loss.MinDelay + time.Duration(spread*float64(max(c.loss.MaxDelay-c.loss.MinDelay, 0)))
	if reorder < c.loss.Reorder {
		c.counts.Reordered++
		delay += c.loss.HoldBack
	}
	if duplicate < c.loss.Duplicate {
		c.counts.Duplicated++
		return []time.Duration{delay, delay}
	}
	return []time.Duration{delay}
}

// pass returns when a packet will have passed, and false if too many wait already.
func (c *LossyPacketConn) pass(size int) (time.Duration, bool) {
	if c.loss.BitsPerSecond == 0 {
		return 0, true
	}
	now := time.Now()
	if c.free.Before(now) {
		c.free = now
	}
	if c.free.Sub(now) > c.loss.Queue {
		return 0, false
	}
	c.free = c.free.Add(time.Duration(size) * 8 * time.Second / time.Duration(c.loss.BitsPerSecond))
	return c.free.Sub(now), true
}

func (c *LossyPacketConn) later(delay time.Duration, b []byte, addr net.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.underWay) >= maxUnderWay {
		c.counts.Dropped++
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(delay, func() {
		c.mu.Lock()
		_, alive := c.underWay[timer]
		delete(c.underWay, timer)
		c.mu.Unlock()
		if alive {
			_, _ = c.PacketConn.WriteTo(b, addr) // nobody waits for the result
		}
	})
	c.underWay[timer] = struct{}{}
}

// Close drops what is under way.
func (c *LossyPacketConn) Close() error {
	c.mu.Lock()
	c.closed = true
	for timer := range c.underWay {
		timer.Stop()
	}
	clear(c.underWay)
	c.mu.Unlock()
	return c.PacketConn.Close()
}
