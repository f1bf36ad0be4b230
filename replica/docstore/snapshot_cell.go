package docstore

import (
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// A cell may have a sibling of the greatest size for each replica that ever wrote, and then no frame takes it. Its siblings are sent
// in several pieces. All but the last say nothing of what they lack; the last one speaks of the whole cell, and names the siblings
// before it by their dots.

// partsOf returns the pieces of one cell; like holds the range of each.
func partsOf(like protocol.SnapshotPiece, key string, f crdt.Field, most int) []*protocol.SnapshotPiece {
	var parts []*protocol.SnapshotPiece
	var spared crdt.VersionVector
	for rest := f.Cell.Live; len(rest) > 0; {
		n, size := 0, 0
		for n < len(rest) && (n == 0 || size+rest[n].Value.PackedSize() <= most) {
			size += rest[n].Value.PackedSize()
			n++
		}
		some := []crdt.Field{{Path: f.Path, Cell: crdt.Cell{Live: rest[:n], Observed: f.Cell.Observed}}}
		p := like
		p.Documents = []crdt.DocumentDelta{{Key: key, Cells: codec.AppendCells(nil, some)}}
		if p.Partial = n < len(rest); !p.Partial {
			p.Spared = spared
		}
		parts = append(parts, &p)
		for _, e := range rest[:n] {
			spared.Advance(e.Dot)
		}
		rest = rest[n:]
	}
	return parts
}

// withSpared returns a cell of a piece with those siblings that came before it, as far as they are live in own: where they are not, it
// is known here that they are dead.
func withSpared(c, own crdt.Cell, spared crdt.VersionVector) crdt.Cell {
	if spared.Len() == 0 {
		return c
	}
	live := slices.Clone(c.Live)
	for _, e := range own.Live {
		i, has := slices.BinarySearchFunc(live, e.Dot.Replica, func(l crdt.Entry, r crdt.ReplicaID) int {
			return crdt.Dot{Replica: l.Dot.Replica}.Compare(crdt.Dot{Replica: r})
		})
		if !has && spared.Get(e.Dot.Replica) == e.Dot.Time {
			live = slices.Insert(live, i, e)
		}
	}
	c.Live = live
	return c
}

// cellParts is what came of a cell that is in several pieces: the last one may be taken only after all of the others, for it
// has nothing but their dots to tell of their siblings. It is in memory only. After a break all of them come again.
type cellParts struct {
	of   *protocol.SnapshotBegin
	at   protocol.Position
	dots crdt.VersionVector
}

func (c *cellParts) add(p *protocol.Piece, fields [][]crdt.Field) {
	if c.of != p.Of || c.at != p.Lower {
		*c = cellParts{of: p.Of, at: p.Lower}
	}
	for _, doc := range fields {
		for _, f := range doc {
			for _, e := range f.Cell.Live {
				c.dots.Advance(e.Dot)
			}
		}
	}
}

// cover reports whether all that a piece says came before it did.
func (c *cellParts) cover(p *protocol.Piece) bool {
	return p.Spared.Len() == 0 || c.of == p.Of && c.at == p.Lower && p.Spared.LessOrEqual(c.dots)
}

// mergePart merges siblings of a cell that is not whole: what this replica has stays, but for what they say is dead.
func (s *Space) mergePart(r Reader, b *store.Batch, p *protocol.Piece, fields [][]crdt.Field) (changed int, err error) {
	for i, doc := range p.Documents {
		d, err := s.open(r, doc.Key)
		if err != nil {
			return changed, err
		}
		for _, f := range fields[i] {
			if err := d.loadPath(f.Path); err != nil {
				return changed, err
			}
			d.doc.MergeComplete(f.Path, s.vv, f.Cell, crdt.VersionVector{}, s.stable)
		}
		o, err := d.finish()
		if err == nil && o != nil {
			err = checkSize([]*outcome{o})
		}
		if err != nil {
			return changed, err
		}
		if o != nil {
			o.apply(b)
			changed++
		}
	}
	return changed, nil
}
