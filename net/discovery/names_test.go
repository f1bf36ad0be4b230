package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/anabranch-db/anabranch/replica"
)

// dnsServer answers SRV and TXT questions on loopback.
type dnsServer struct {
	srv map[string][]dnsmessage.SRVResource
	txt map[string][]string
}

// resolver starts the server and returns a resolver that asks it.
func (s *dnsServer) resolver(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			answer, err := s.answer(buf[:n])
			if err != nil {
				t.Errorf("question %x: %v", buf[:n], err)
				continue
			}
			_, _ = conn.WriteTo(answer, from) // the resolver asks again
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp4", conn.LocalAddr().String())
	}}
}

func (s *dnsServer) answer(question []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil || len(m.Questions) != 1 {
		return nil, fmt.Errorf("%w: %d questions", err, len(m.Questions))
	}
	q := m.Questions[0]
	reply := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true, RecursionDesired: true},
		Questions: m.Questions,
	}
	name := strings.ToLower(q.Name.String())
	header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60}
	switch q.Type {
	case dnsmessage.TypeSRV:
		for _, r := range s.srv[name] {
			reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: header, Body: &r})
		}
	case dnsmessage.TypeTXT:
		for _, text := range s.txt[name] {
			reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.TXTResource{TXT: []string{text}}})
		}
	}
	if len(reply.Answers) == 0 {
		reply.RCode = dnsmessage.RCodeNameError
	}
	return reply.Pack()
}

func srv(target string, port uint16) dnsmessage.SRVResource {
	return dnsmessage.SRVResource{Priority: 1, Weight: 1, Port: port, Target: dnsmessage.MustNewName(target)}
}

func TestNameStandsForTheNodesOfItsRecords(t *testing.T) {
	a, b := replica.PeerID{1}, replica.PeerID{2}
	server := &dnsServer{
		srv: map[string][]dnsmessage.SRVResource{
			"_anabranch._udp.example.org.": {srv("a.example.org.", 7420), srv("b.example.org.", 7421)},
			"_other._udp.example.org.":     {srv("a.example.org.", 1)},
			"_anabranch._udp.none.org.":    {srv(".", 0)},
			"_anabranch._udp.broken.org.":  {srv("broken.org.", 1)},
		},
		txt: map[string][]string{
			"a.example.org.": {"v=spf1 -all", idPrefix + a.String(), idPrefix + b.String()},
			"broken.org.":    {idPrefix + "oops"},
		},
	}
	r := server.resolver(t)
	for name, want := range map[string][]replica.Peer{
		"example.org":             {{ID: a, Addr: "a.example.org:7420"}, {ID: b, Addr: "a.example.org:7420"}, {Addr: "b.example.org:7421"}},
		"_other._udp.example.org": {{ID: a, Addr: "a.example.org:1"}, {ID: b, Addr: "a.example.org:1"}},
		"none.org":                nil,
	} {
		got, err := Lookup(t.Context(), r, name)
		slices.SortFunc(got, func(x, y replica.Peer) int { return strings.Compare(x.Addr+x.ID.String(), y.Addr+y.ID.String()) })
		slices.SortFunc(want, func(x, y replica.Peer) int { return strings.Compare(x.Addr+x.ID.String(), y.Addr+y.ID.String()) })
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, want)
		}
	}
	for name, part := range map[string]string{"missing.org": "missing.org", "broken.org": "oops"} {
		if got, err := Lookup(t.Context(), r, name); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// changing is a Resolver whose answers a test sets.
type changing struct {
	mu      sync.Mutex
	records []*net.SRV
	err     error
	asked   []time.Time
}

func (c *changing) set(err error, targets ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err, c.records = err, nil
	for _, target := range targets {
		c.records = append(c.records, &net.SRV{Target: target, Port: 1})
	}
}

func (c *changing) LookupSRV(context.Context, string, string, string) (string, []*net.SRV, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, time.Now())
	return "", c.records, c.err
}

func (c *changing) LookupTXT(context.Context, string) ([]string, error) {
	return nil, &net.DNSError{IsNotFound: true}
}

func TestNameIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := &changing{}
		var present []string
		ended := make(chan struct{})
		r.set(errors.New("no network"))
		go func() {
			defer close(ended)
			Follow(ctx, Names{
				Name: "example.org", Resolver: r,
				Add: func(p replica.Peer) { present = append(present, p.Addr) },
				Remove: func(p replica.Peer) {
					present = slices.DeleteFunc(present, func(a string) bool { return a == p.Addr })
				},
			})
		}()
		expect := func(after time.Duration, want ...string) {
			t.Helper()
			timer := time.NewTimer(after)
			<-timer.C
			synctest.Wait()
			if !slices.Equal(present, want) {
				t.Errorf("there are %v, want %v", present, want)
			}
		}
		expect(time.Hour)
		if n := len(r.asked); n < 12 || n > 40 {
			t.Errorf("asked %d times in an hour without an answer", n)
		}
		r.set(nil, "a.", "b.")
		expect(2*lookupInterval, "a:1", "b:1")
		r.set(errors.New("no network"))
		expect(time.Hour, "a:1", "b:1")
		r.set(nil, "b.", "c.")
		expect(2*lookupInterval, "b:1", "c:1")
		cancel()
		<-ended
	})
}
