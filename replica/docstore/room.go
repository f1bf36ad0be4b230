package docstore

import "github.com/anabranch-db/anabranch/crdt"

// room is an amount of what a batch takes. Merge reckons with it before it merges a cell, for a document cannot
// be taken back to what it was.
type room struct {
	bytes   int
	entries int
}

// Bounds of what one merge writes, unless a single cell alone comes to more. They leave room for what waits in the batch.
const (
	mergeBytes   = maxOutcomeBytes / 2
	mergeEntries = maxOutcomeEntries / 2
)

// LimitMerges sets how much Merge writes into one batch, about, instead of what suits the store. Tests use it to see many deltas
// merged in parts.
func (s *Space) LimitMerges(bytes, entries int) { s.mergeLimit = room{bytes, entries} }

func (s *Space) mergeRoom() room {
	if s.mergeLimit == (room{}) {
		return room{mergeBytes, mergeEntries}
	}
	return s.mergeLimit
}

func (r room) plus(o room) room { return room{r.bytes + o.bytes, r.entries + o.entries} }

func (r room) holds(o room) bool { return o.bytes <= r.bytes && o.entries <= r.entries }

func (r room) isUsed() bool { return r.bytes <= 0 || r.entries <= 0 }

// less returns what is left once o is written.
func (r room) less(o *outcome) room {
	bytes, entries := o.size()
	return room{r.bytes - bytes, r.entries - entries}
}

// costOf bounds what merging f into the i-th part adds to it and to the log.
func (d *openDoc) costOf(i int, f crdt.Field) room {
	const dotBytes = 12
	old := d.doc.Cell(f.Path)
	dots := len(f.Cell.Live) + f.Cell.Observed.Len()
	r := room{bytes: len(f.Path) + dots*(dotBytes+d.logKeyBytes(i, f.Path)), entries: dots}
	for _, c := range []crdt.Cell{f.Cell, old} {
		for _, e := range c.Live {
			r.bytes += e.Value.PackedSize()
		}
	}
	return r
}

// costOfPart bounds what rewriting the i-th part as it is takes: its record, and its log keys if it is split.
func (d *openDoc) costOfPart(i int) room {
	p := &d.parts[i]
	return room{
		bytes:   p.bytes + len(d.key) + len(p.start) + 2*len(p.dots)*d.logKeyBytes(i, p.start),
		entries: 1 + p.segments + 2*len(p.dots),
	}
}

// logKeyBytes bounds the size of a log key of a field at p, whose part may be split there.
func (d *openDoc) logKeyBytes(i int, p crdt.PathKey) int {
	const fixed = 24
	return fixed + len(d.key) + max(len(p), len(d.parts[i].start))
}
