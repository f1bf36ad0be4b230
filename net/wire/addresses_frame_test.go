package wire

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/replica/protocol"
)

func TestBadAddresses(t *testing.T) {
	id := bin(make([]byte, 32)...)
	long := str(strings.Repeat("x", protocol.MaxAddrBytes+1))
	with := func(parts ...[]byte) []byte {
		return frameOf(TypeAddresses, append([][]byte{arr(3), str(""), u(1)}, parts...)...)
	}
	nine := arr(protocol.MaxAddrs + 1)
	for range protocol.MaxAddrs + 1 {
		nine = append(nine, str("a")...)
	}
	for name, c := range map[string]struct {
		frame []byte
		want  error
	}{
		"seen at a long address": {frameOf(TypeAddresses, arr(3), long, u(1), arr(0)), ErrTooLarge},
		"too many connections":   {frameOf(TypeAddresses, arr(3), str(""), u(maxPeers+1), arr(0)), ErrValue},
		"too many nodes":         {with(arr(3*protocol.MaxKnown+3), make([]byte, 3*protocol.MaxKnown+3)), ErrTooLarge},
		"half a node":            {with(arr(2), id, u(1)), ErrTruncated},
		"a short ID":             {with(arr(3), bin(1, 2), u(1), arr(0)), ErrTruncated},
		"a long ID":              {with(arr(3), bin(make([]byte, 33)...), u(1), arr(0)), ErrTooLarge},
		"an age of centuries":    {with(arr(3), id, u(1<<40), arr(0)), ErrValue},
		"too many addresses":     {with(arr(3), id, u(1), nine), ErrTooLarge},
		"a long address":         {with(arr(3), id, u(1), arr(1), long), ErrTooLarge},
		"an address not UTF-8":   {with(arr(3), id, u(1), arr(1), str("a\xff")), ErrUTF8},
		"Hello once more":        {frameOf(TypeHello, arr(0)), ErrUnexpected},
	} {
		var typed *FrameError
		if m, err := UnmarshalControl(c.frame); !errors.As(err, &typed) || !errors.Is(err, c.want) || m != nil {
			t.Errorf("%s: %v, %v, want a *FrameError of %v", name, m, err, c.want)
		}
	}
	if m, err := UnmarshalControl(frameOf(0x07, []byte("anything"))); m != nil || err != nil {
		t.Errorf("an unknown type: %v, %v", m, err)
	}
	if _, err := Unmarshal(with(arr(0))); !errors.Is(err, ErrUnexpected) {
		t.Errorf("in a session: %v", err)
	}
}

func TestAddressesKeepToTheLimits(t *testing.T) {
	many := &protocol.Addresses{Known: make([]protocol.Whereabouts, protocol.MaxKnown)}
	for i := range many.Known {
		many.Known[i].Addrs = []string{strings.Repeat("x", protocol.MaxAddrBytes), strings.Repeat("y", protocol.MaxAddrBytes)}
	}
	for name, m := range map[string]*protocol.Addresses{
		"more than a control frame holds": many,
		"too many nodes":                  {Known: make([]protocol.Whereabouts, protocol.MaxKnown+1)},
		"too many addresses":              {Known: []protocol.Whereabouts{{Addrs: make([]string, protocol.MaxAddrs+1)}}},
		"from the future":                 {Known: []protocol.Whereabouts{{Age: -time.Second}}},
	} {
		out, err := MarshalControl([]byte("prefix"), m)
		if err == nil || string(out) != "prefix" {
			t.Errorf("%s: %v, and %q", name, err, out)
		}
	}
}
