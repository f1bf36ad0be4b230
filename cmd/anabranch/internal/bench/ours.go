package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/net/quicnet"
	"github.com/anabranch-db/anabranch/replica"
)

// ours is a node as a program that embeds package replica has it.
type ours struct {
	r *replica.Replica
	s *replica.Space
	t *quicnet.Transport
}

const (
	benchSpace  = "bench"
	loopback    = "127.0.0.1:0"
	syncEvery   = 200 * time.Millisecond // in mode syncInterval, of both engines
	identityDir = "identity"
)

func openOurs(a openArgs) (subject, error) {
	mode, ok := map[string]replica.SyncMode{
		syncAlways: replica.SyncAlways, syncInterval: replica.SyncInterval, syncNever: replica.SyncNever,
	}[a.Sync]
	if !ok {
		return nil, fmt.Errorf("unknown sync mode %q", a.Sync)
	}
	keys := filepath.Join(a.Dir, identityDir)
	if err := os.MkdirAll(keys, 0o700); err != nil {
		return nil, err
	}
	id, err := quicnet.LoadOrCreateIdentity(keys)
	if err != nil {
		return nil, err
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	o := &ours{}
	// Both nodes are made for this run and listen on the loopback interface only.
	o.t, err = quicnet.New(quicnet.Config{Identity: id, Listen: loopback, InsecureAllowAny: true, Logger: logger})
	if err != nil {
		return nil, err
	}
	o.r, err = replica.Open(replica.Config{
		Dir: filepath.Join(a.Dir, "store"), Sync: mode, SyncInterval: syncEvery, Transport: o.t, Logger: logger,
		PruneDelay: map[bool]time.Duration{true: -1, false: 24 * time.Hour}[a.Prune],
	})
	if err != nil {
		return nil, errors.Join(err, o.t.Close())
	}
	if o.s, err = o.r.Space(benchSpace); err != nil {
		return nil, errors.Join(err, o.r.Close())
	}
	return o, nil
}

func (o *ours) addr() (addr, peer string) { return o.t.Addrs()[0], o.t.Self().String() }
func (o *ours) close() error              { return o.r.Close() }

func markOf(rc replica.Receipt) mark {
	return mark{uint64(rc.Dot.Replica), uint64(rc.Dot.Time)}
}

func (o *ours) update(ctx context.Context, key string, fn func(d *replica.TxDoc) error) (mark, error) {
	rc, err := o.s.Update(ctx, func(tx *replica.Tx) error { return fn(tx.Doc(key)) })
	return markOf(rc), err
}

func (o *ours) put(ctx context.Context, d document) (mark, error) {
	v := d.goValue()
	return o.update(ctx, d.Key, func(doc *replica.TxDoc) error { return doc.Replace(v) })
}

func (o *ours) set(ctx context.Context, key string, f field) (mark, error) {
	return o.update(ctx, key, func(doc *replica.TxDoc) error { return doc.Set(crdt.Path{f.Name}, f.value()) })
}

func (o *ours) remove(ctx context.Context, key string) (mark, error) {
	return o.update(ctx, key, func(doc *replica.TxDoc) error { return doc.Delete() })
}

func (o *ours) dial(addr, peer string) error {
	id, err := replica.ParsePeerID(peer)
	if err != nil {
		return err
	}
	o.r.AddPeer(replica.Peer{ID: id, Addr: addr})
	return nil
}

func (o *ours) acked(ctx context.Context, m mark, peers int) error {
	dot := crdt.Dot{Replica: crdt.ReplicaID(m.Replica), Time: hlc.Time(m.Time)}
	return o.s.WaitSynced(ctx, replica.Receipt{Dot: dot}, peers)
}

func (o *ours) watch(ctx context.Context, ready chan<- struct{}, seen func(key string) bool) error {
	since := o.s.Cursor()
	close(ready)
	for c, err := range o.s.Watch(ctx, since) {
		if err != nil {
			return err
		}
		if !seen(c.Key) {
			return nil
		}
	}
	return nil
}

func (o *ours) traffic() (sent, received uint64) {
	for _, p := range o.r.Peers() {
		sent += p.Sent
		received += p.Received
	}
	return sent, received
}

func (o *ours) documents(ctx context.Context) (int64, error) {
	st, err := o.s.Status(ctx)
	return st.Documents, err
}

func (o *ours) inspect(ctx context.Context, key string, want field) (shown, conflicted bool, err error) {
	d, err := o.s.Get(ctx, key)
	if err != nil {
		return false, false, err
	}
	path := crdt.Path{want.Name}
	v, ok := d.Get(path)
	if ok && v == want.value() {
		return true, false, nil
	}
	for _, c := range d.Conflicts() {
		if c.Path.String() == path.String() && c.Value.Any() == want.value() {
			return false, true, nil
		}
	}
	return false, false, nil
}

func (o *ours) probe(ctx context.Context, g generator, a probeArgs) (time.Duration, error) {
	switch a.What {
	case probeField:
		return o.probeField(ctx, a)
	case probePage:
		return median(a.Count, func(i int) error { return o.readPage(ctx, g.key(i*7919%a.Docs)) })
	case probeResume:
		return median(a.Count, func(int) error { return o.resume(ctx) })
	case probeBackup:
		return median(1, func(int) error {
			_, err := o.r.Backup(ctx, io.Discard, replica.BackupOptions{})
			return err
		})
	}
	return 0, fmt.Errorf("unknown probe %q", a.What)
}

// probeField makes a document of so many fields, and then sets one after the other, in no order.
func (o *ours) probeField(ctx context.Context, a probeArgs) (time.Duration, error) {
	key := fmt.Sprintf("wide/%d", a.Fields)
	name := func(i int) string { return fmt.Sprintf("field%05d", i) }
	for first := 0; first < a.Fields; first += 1000 {
		_, err := o.update(ctx, key, func(doc *replica.TxDoc) error {
			for i := first; i < min(first+1000, a.Fields); i++ {
				if err := doc.Set(crdt.Path{name(i)}, "as it was made"); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return median(a.Count, func(i int) error {
		_, err := o.set(ctx, key, field{Name: name(i * 7919 % a.Fields), Number: int64(i)})
		return err
	})
}

const probeSize = 50 // documents of a page, changes of a resumed watch

func (o *ours) readPage(ctx context.Context, after string) error {
	for _, err := range o.s.ScanRange(ctx, replica.Range{After: after, Limit: probeSize}) {
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *ours) resume(ctx context.Context) error {
	now := o.s.Cursor()
	since := now
	since.Arrival -= min(since.Arrival, probeSize)
	for c, err := range o.s.Watch(ctx, since) {
		// Of a document that changed twice only the last change comes.
		if err != nil || c.Cursor.Arrival >= now.Arrival {
			return err
		}
	}
	return nil
}
