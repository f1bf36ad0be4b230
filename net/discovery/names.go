package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/anabranch-db/anabranch/replica"
)

const (
	// lookupInterval is about how often a name is looked up again.
	lookupInterval = 5 * time.Minute
	// minLookupRetry is how long after a failure; it doubles up to the interval.
	minLookupRetry = 5 * time.Second
	lookupTimeout  = 10 * time.Second
	// maxNamed bounds the nodes that one name stands for.
	maxNamed = 64
	// idPrefix begins the TXT record of a host that has the peer ID of a node there.
	idPrefix = "anabranch="
)

// Resolver looks up DNS records; *net.Resolver is one.
type Resolver interface {
	LookupSRV(ctx context.Context, service, proto, name string) (cname string, addrs []*net.SRV, err error)
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// Names says which name to follow.
type Names struct {
	// Name is a domain, whose record _anabranch._udp is looked up, or a name that begins with _ and is looked up as it is.
	Name string
	// Add and Remove are told of the nodes that the name comes to stand for, and no longer does.
	Add, Remove func(replica.Peer)
	// Resolver is asked; nil: that of the system.
	Resolver Resolver
	// Logger is told of failures; nil: nobody is.
	Logger *slog.Logger
}

// Follow keeps Add and Remove told until ctx ends. If a lookup fails, the nodes that were found before stay.
func Follow(ctx context.Context, n Names) {
	if n.Resolver == nil {
		n.Resolver = net.DefaultResolver
	}
	if n.Logger == nil {
		n.Logger = slog.New(slog.DiscardHandler)
	}
	var present []replica.Peer
	retry := minLookupRetry
	for {
		pause := lookupInterval/2 + rand.N(lookupInterval)
		found, err := Lookup(ctx, n.Resolver, n.Name)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			n.Logger.Warn("nodes cannot be looked up; it is tried again", "name", n.Name, "error", err)
			pause = retry/2 + rand.N(retry)
			retry = min(2*retry, lookupInterval)
		default:
			retry = minLookupRetry
			n.tell(present, found)
			present = found
		}
		if wait(ctx, pause) != nil {
			return
		}
	}
}

func (n Names) tell(before, now []replica.Peer) {
	for _, p := range now {
		if !slices.Contains(before, p) {
			n.Add(p)
		}
	}
	for _, p := range before {
		if !slices.Contains(now, p) {
			n.Remove(p)
		}
	}
}

// Lookup returns the nodes that a name stands for now. Those whose hosts name no peer ID have none: then whoever answers there counts, if
// it is allowed.
func Lookup(ctx context.Context, r Resolver, name string) ([]replica.Peer, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	service, proto := "anabranch", "udp"
	if strings.HasPrefix(name, "_") {
		service, proto = "", ""
	}
	_, records, err := r.LookupSRV(ctx, service, proto, name)
	if err != nil {
		return nil, fmt.Errorf("look up the SRV record of %s: %w", name, err)
	}
	var peers []replica.Peer
	for _, s := range records[:min(len(records), maxNamed)] {
		host := strings.TrimSuffix(s.Target, ".")
		if host == "" {
			continue // RFC 2782: the service is not offered
		}
		addr := net.JoinHostPort(host, strconv.Itoa(int(s.Port)))
		ids, err := idsAt(ctx, r, s.Target)
		if err != nil {
			return nil, err
		}
		if len(ids) == 0 {
			ids = []replica.PeerID{{}}
		}
		for _, id := range ids {
			peers = append(peers, replica.Peer{ID: id, Addr: addr})
		}
	}
	return peers[:min(len(peers), maxNamed)], nil
}

// idsAt returns the peer IDs that a host names.
func idsAt(ctx context.Context, r Resolver, host string) ([]replica.PeerID, error) {
	texts, err := r.LookupTXT(ctx, host)
	var missing *net.DNSError
	if errors.As(err, &missing) && missing.IsNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up the TXT records of %s: %w", host, err)
	}
	var ids []replica.PeerID
	for _, text := range texts {
		if !strings.HasPrefix(text, idPrefix) {
			continue
		}
		id, err := replica.ParsePeerID(strings.TrimPrefix(text, idPrefix))
		if err != nil {
			return nil, fmt.Errorf("TXT record of %s: %w", host, err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}
