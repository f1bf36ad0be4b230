package replay

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

// sync brings m up to what holder has, which vv is. The holder gets what m has of its own, or a part of that; with both, it
// gets all of it. Afterwards the two are apart again.
func (p *player) sync(ctx context.Context, m, holder *member, vv crdt.VersionVector, both bool) error {
	if err := errors.Join(p.wake(holder), p.wake(m)); err != nil {
		return err
	}
	p.result.Syncs++
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	peer := replica.Peer{ID: holder.r.Self(), Addr: holder.r.Addrs()[0]}
	m.phone.pickUp()
	m.r.AddPeer(peer)
	err := m.space.WaitVector(ctx, vv)
	if err == nil && both {
		err = holder.space.WaitVector(ctx, m.vector)
	}
	if err != nil {
		err = fmt.Errorf("sync %s with %s: %w%s", m.name, holder.name, err, lastErrors(m.r))
	}
	m.r.RemovePeer(peer)
	p.result.Bytes += m.phone.hangUp()
	if err != nil {
		return err
	}
	m.note()
	return nil
}

// lastErrors says what a replica reports of its peers.
func lastErrors(r *replica.Replica) string {
	var b strings.Builder
	for _, p := range r.Peers() {
		if p.LastError != "" {
			fmt.Fprintf(&b, "; %s: %s", p.Addr, p.LastError)
		}
	}
	return b.String()
}

// fetch brings m to the state of a line, whoever has it, and gives that one nothing that it must not have.
func (p *player) fetch(ctx context.Context, m *member, parent int) error {
	vv := p.vectors[parent]
	if vv.LessOrEqual(m.vector) {
		return nil
	}
	holder, err := p.holder(parent)
	if err != nil {
		return err
	}
	last := p.keepers[parent] == holder && p.uses[parent] == 1
	if m.vector.LessOrEqual(vv) || last {
		return p.sync(ctx, m, holder, vv, false)
	}
	p.result.Couriers++
	courier := p.newMember(fmt.Sprintf("courier %d", p.result.Couriers), 0)
	err = p.sync(ctx, courier, holder, vv, false)
	if err == nil {
		err = p.sync(ctx, m, courier, vv, false)
	}
	return errors.Join(err, p.dismiss(courier))
}

// holder returns the replica that has the state of a line and no other.
func (p *player) holder(line int) (*member, error) {
	if k := p.keepers[line]; k != nil {
		return k, nil
	}
	m := p.members[p.index.Lines[line].Replica]
	if m == nil || m.at != line {
		return nil, fmt.Errorf("nobody holds the state of line %d any more", p.index.Lines[line].Number)
	}
	return m, nil
}

// keep lets a keeper have the state of the line that m is at, if a later line than the present one needs it. It is called before m
// moves on.
func (p *player) keep(ctx context.Context, m *member, present *entry) error {
	if m.at < 0 {
		return nil
	}
	later := p.uses[m.at]
	if present.hasParent(m.at) {
		later--
	}
	if later == 0 {
		return nil
	}
	p.result.Keepers++
	k := p.newMember(fmt.Sprintf("keeper %d", p.result.Keepers), 0)
	p.keepers[m.at] = k
	return p.sync(ctx, k, m, p.vectors[m.at], false)
}

// release counts one use of a line's state, and lets go what nobody needs any more.
func (p *player) release(line int) error {
	p.uses[line]--
	return p.drop(line)
}

func (p *player) drop(line int) error {
	if p.uses[line] > 0 {
		return nil
	}
	p.vectors[line] = crdt.VersionVector{}
	k := p.keepers[line]
	if k == nil {
		return nil
	}
	delete(p.keepers, line)
	return p.dismiss(k)
}
