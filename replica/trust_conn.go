package replica

import (
	"context"
	"maps"
	"slices"
	"time"
)

// hasRights is the Gate's: it lets nodes connect that may read a space with a key.
func (r *Replica) hasRights(p PeerID) bool {
	for _, s := range r.ownedSpaces() {
		if s.rightsOf(p) >= ReadRights {
			return true
		}
	}
	return false
}

// mayOffer reports whether a space may be named to a peer: one without a key to those on the list, one with a key to those that may read it.
func (r *Replica) mayOffer(pc *peerConn, s *Space) bool { return s.rightsOf(pc.peer) >= ReadRights }

// beginOffer reports false if the space is being offered over the connection already.
func (pc *peerConn) beginOffer(s *Space) bool {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	if _, ok := pc.offers[s]; ok {
		return false
	}
	pc.offers[s] = struct{}{}
	return true
}

func (pc *peerConn) endOffer(s *Space) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	delete(pc.offers, s)
}

// enforceConnections ends the connections of peers that have no rights in any space any more and are not on the list, after a moment in which their sessions
// tell them why.
func (r *Replica) enforceConnections() {
	if r.cfg.Transport == nil {
		return
	}
	r.peers.mu.Lock()
	conns := slices.Collect(maps.Values(r.peers.conns))
	r.peers.mu.Unlock()
	for _, pc := range conns {
		if r.isWelcome(pc.peer) {
			continue
		}
		time.AfterFunc(refusalTimeout, func() {
			if !r.isWelcome(pc.peer) {
				pc.Close(CloseNotAllowed, "this node has no rights in any space here")
			}
		})
	}
}

func (r *Replica) isWelcome(p PeerID) bool { return r.cfg.Transport.Listed(p) || r.hasRights(p) }

// dialAt connects to a node. One that refuses may not have heard of this node's rights yet: it is told.
func (r *Replica) dialAt(ctx context.Context, addr string, p PeerID) (Conn, error) {
	conn, err := r.cfg.Transport.Dial(ctx, addr, p)
	if err != nil && isRefused(err) && !p.IsZero() && r.introduce(ctx, Peer{ID: p, Addr: addr}) {
		return r.cfg.Transport.Dial(ctx, addr, p)
	}
	return conn, err
}

// mayIntroduce reports whether a peer may be told where another one is: if both are on the list, and Config.Introduce agrees; or if both
// may read one space with a key.
func (r *Replica) mayIntroduce(to, about PeerID) bool {
	if r.cfg.Transport.Listed(to) && r.cfg.Transport.Listed(about) && r.cfg.Introduce(to, about) {
		return true
	}
	for _, s := range r.ownedSpaces() {
		if v := s.permissions(); v.Rights(to) >= ReadRights && v.Rights(about) >= ReadRights {
			return true
		}
	}
	return false
}
