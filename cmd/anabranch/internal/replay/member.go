package replay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

// spaceName is the one space of the replicas.
const spaceName = "replay"

// member is one replica, open or closed.
type member struct {
	name   string
	number uint32 // above 0 and in the order of the names; 0: it does not write
	drawn  uint32 // ReplicaIDs
	dir    string // empty: in memory
	at     int    // the last line that it ran; -1 if none
	vector crdt.VersionVector

	r     *replica.Replica // nil while it is closed
	space *replica.Space
	phone *phone
	used  uint64 // when it was last needed

	documents map[string]documentHash
}

type documentHash struct {
	cursor replica.Cursor
	hash   string
}

// newMember makes a replica; it is opened when it is needed.
func (p *player) newMember(name string, number uint32) *member {
	m := &member{name: name, number: number, at: -1, documents: make(map[string]documentHash)}
	p.made++
	if p.dir != "" {
		m.dir = filepath.Join(p.dir, strconv.Itoa(p.made))
	}
	return m
}

// wake makes sure that a replica is open, and closes the one that was not needed for the longest time if there are too many.
// The last three that were woken stay open.
func (p *player) wake(m *member) error {
	p.clock++
	m.used = p.clock
	if m.r != nil {
		return nil
	}
	if m.dir != "" && len(p.open) >= openStores {
		oldest := m
		for o := range p.open {
			if o.used < oldest.used {
				oldest = o
			}
		}
		if err := p.sleep(oldest); err != nil {
			return err
		}
	}
	phone, err := p.fleet.phone(m.name)
	if err != nil {
		return err
	}
	m.r, err = replica.Open(replica.Config{
		Dir: m.dir, Sync: replica.SyncNever, MemTableBytes: memTableBytes, Logger: p.opts.Logger, Transport: phone,
		Now:          func() time.Time { return time.UnixMilli(p.now.Load()) },
		NewReplicaID: m.draw,
	})
	if err != nil {
		return errors.Join(fmt.Errorf("replica %s: %w", m.name, err), phone.Close())
	}
	m.phone = phone
	p.open[m] = struct{}{}
	p.result.StoresOpened++
	if m.space, err = m.r.Space(spaceName); err != nil {
		return fmt.Errorf("replica %s: %w", m.name, err)
	}
	return nil
}

// draw returns ReplicaIDs whose order is that of the names of the replicas, however many one of them draws.
func (m *member) draw() crdt.ReplicaID {
	m.drawn++
	return crdt.ReplicaID(uint64(m.number)<<32 | uint64(m.drawn))
}

// sleep closes a replica. It can be woken again if it has a directory.
func (p *player) sleep(m *member) error {
	if m.r == nil {
		return nil
	}
	err := m.r.Close()
	delete(p.open, m)
	m.r, m.space, m.phone = nil, nil, nil
	if err != nil {
		return fmt.Errorf("close replica %s: %w", m.name, err)
	}
	return nil
}

// dismiss closes a replica for good and removes its store.
func (p *player) dismiss(m *member) error {
	err := p.sleep(m)
	p.fleet.forget(m.name)
	if m.dir != "" {
		err = errors.Join(err, os.RemoveAll(m.dir))
	}
	return err
}

// note remembers what the replica holds now. Nothing may be under way.
func (m *member) note() { m.vector = m.space.Summary().Vector }
