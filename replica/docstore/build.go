package docstore

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// Size of the deltas that Build makes. Bulk frames of about 500 small documents reach the full speed of
// a receiver that syncs each; larger ones gain nothing.
const (
	buildRecords  = 512
	bulkBytes     = 1 << 20 // of several transactions: a slow peer costs the memory of one frame
	maxBuildBytes = 5 << 20 // a transaction of the greatest size fits
)

// Build makes a delta of the transactions of origin in (from, to], or in a first part of that range if it is
// long: never a part of a transaction. The error is
// protocol.ErrPruned if stable has passed pruned, which is at or before from: what the receiver holds whole of origin. Everything is of the snapshot, the horizon too: one that is not durable could
// name writes that a crash takes back, and who has seen it would wait for them for ever.
//
// It takes just the cells that refer to a dot of origin in the range. What those transactions did in other
// cells has since been replaced or removed by later writes, whose own deltas carry those cells whole.
func Build(r store.Snapshot, space uint32, origin crdt.ReplicaID, from, to, pruned hlc.Time) (*crdt.Delta, error) {
	stable, horizon, err := entryOf(r, space, origin)
	if err != nil {
		return nil, err
	}
	if stable > min(from, pruned) {
		return nil, fmt.Errorf("%w: (%s, %s] of %s for one that has all of it up to %s, and up to %s it is forgotten",
			protocol.ErrPruned, from, to, origin, pruned, stable)
	}
	hidden, err := hiddenIn(r, space)
	if err != nil {
		return nil, err
	}
	for limit := buildRecords; ; limit = max(1, limit/4) {
		records, end, err := logged(r, space, origin, from, to, limit)
		if err != nil {
			return nil, err
		}
		d := &crdt.Delta{Origin: origin, From: from, To: end, Stable: stable}
		d.Horizon.Advance(crdt.Dot{Replica: origin, Time: horizon})
		d.Horizon.Join(hidden)
		most := bulkBytes
		if limit == 1 {
			most = maxBuildBytes
		}
		ok, err := fill(r, space, d, records, most, false)
		if err == nil && !ok && limit == 1 {
			d.Documents = nil
			_, err = fill(r, space, d, records, most, true)
			ok = true
		}
		if err != nil || ok {
			return d, err
		}
	}
}

// recordName names one record: a document, or one chunk of it.
type recordName struct {
	key   string
	start crdt.PathKey
}

func (n recordName) compare(o recordName) int {
	if c := strings.Compare(n.key, o.key); c != 0 {
		return c
	}
	return strings.Compare(string(n.start), string(o.start))
}

// logged walks the log over (from, to] and returns the records that it names, each once, sorted, and the time up
// to which it got: to, or the last transaction before it would exceed limit records.
func logged(r store.Snapshot, space uint32, origin crdt.ReplicaID, from, to hlc.Time, limit int) ([]recordName, hlc.Time, error) {
	var records []recordName
	end := to
	var last hlc.Time
	for k, err := range r.Keys(logPrefix(space, origin, from+1), after(logPrefix(space, origin, to))) {
		if err != nil {
			return nil, 0, fmt.Errorf("read the log of %s: %w", origin, err)
		}
		p, err := parseLogKey(k)
		if err != nil {
			return nil, 0, err
		}
		if p.dot.Time != last {
			if len(records) >= limit {
				end = last
				break
			}
			last = p.dot.Time
		}
		records = append(records, recordName{p.key, p.start})
	}
	slices.SortFunc(records, recordName.compare)
	return slices.Compact(records), end, nil
}

// fill reads the records in the order of their keys, which is much faster than in the order of the log, and takes
// the cells in range. It reports false if that comes to more than a frame should hold. A lean delta is made of one
// transaction whose cells do not fit into a frame because of all the siblings in them: it leaves those out, and
// so is never much larger than the transaction was.
func fill(r store.Snapshot, space uint32, d *crdt.Delta, records []recordName, most int, lean bool) (bool, error) {
	size, count := 0, 0
	for i := 0; i < len(records); {
		key := records[i].key
		n := 1
		for i+n < len(records) && records[i+n].key == key {
			n++
		}
		cells, err := cellsInRange(r, space, d, records[i:i+n], lean)
		if err != nil {
			return false, fmt.Errorf("read document %q for a delta: %w", key, err)
		}
		i += n
		if len(cells) == 0 {
			continue
		}
		d.Documents = append(d.Documents, crdt.DocumentDelta{Key: key, Cells: cells})
		size += len(key) + len(cells)
		count += codec.Count(cells)
		if !lean && (size > most || count > crdt.MaxDeltaFields || len(d.Documents) > crdt.MaxTransactionDocuments) {
			return false, nil
		}
	}
	return true, nil
}

// cellsInRange returns the packed cells of one document that refer to a dot in the range of d.
func cellsInRange(r store.Snapshot, space uint32, d *crdt.Delta, records []recordName, lean bool) ([]byte, error) {
	var fields []crdt.Field
	for _, name := range records {
		cells, err := recordCells(r, space, name)
		if err != nil {
			return nil, err
		}
		if dot, ok := codec.Uniform(cells); ok && len(records) == 1 && inRange(d, dot) {
			return cells, nil // all of it, as it is stored
		}
		all, _, err := parseChunk(cells)
		if err != nil {
			return nil, err
		}
		for _, f := range all {
			if n := len(fields); n > 0 && f.Path <= fields[n-1].Path {
				return nil, fmt.Errorf("%w: a chunk holds paths that belong to others", ErrCorrupt)
			}
			if f.Cell.Refers(d.Origin, d.From, d.To) {
				if lean {
					f.Cell = withoutOthers(f.Cell, d)
				}
				fields = append(fields, f)
			}
		}
	}
	if len(fields) == 0 {
		return nil, nil
	}
	return codec.AppendCells(nil, fields), nil
}

// withoutOthers leaves out the entries of other writers. What is left is a state that the cell could have had before they
// came, but for what they replaced: they have deltas of their own, and the horizon names them.
func withoutOthers(c crdt.Cell, d *crdt.Delta) crdt.Cell {
	own := crdt.Cell{Observed: c.Observed}
	for _, e := range c.Live {
		if inRange(d, e.Dot) {
			own.Live = append(own.Live, e)
		} else {
			d.Horizon.Advance(e.Dot)
		}
	}
	return own
}

func inRange(d *crdt.Delta, dot crdt.Dot) bool {
	return dot.Replica == d.Origin && dot.Time > d.From && dot.Time <= d.To
}

// recordCells returns the packed cells of one record, nil if it has none.
func recordCells(r Reader, space uint32, name recordName) ([]byte, error) {
	rec, ok, err := readRecord(r, space, name.key)
	if !ok || !rec.chunked {
		return rec.cells, err
	}
	cells, _, err := readChunk(r, chunkKey(space, name.key, name.start))
	return cells, err
}

// Combine joins the deltas of successive transactions of one replica into one. Of a cell that several of them
// hold the last is taken, for it is the later state. Deltas that do not follow each other are an error: a replica that draws a
// fresh ReplicaID between two transactions has deltas of two origins.
func Combine(deltas []*crdt.Delta) (*crdt.Delta, error) {
	if len(deltas) == 1 {
		return deltas[0], nil
	}
	first, last := deltas[0], deltas[len(deltas)-1]
	all := &crdt.Delta{Origin: first.Origin, From: first.From, To: last.To}
	n := 0
	for i, d := range deltas {
		if i > 0 && (d.Origin != first.Origin || d.From != deltas[i-1].To) {
			return nil, fmt.Errorf("join deltas: (%s, %s] of %s does not follow %s of %s", d.From, d.To, d.Origin, deltas[i-1].To, first.Origin)
		}
		all.Horizon.Join(d.Horizon)
		all.Stable = max(all.Stable, d.Stable)
		n += len(d.Documents)
	}
	docs := make([]crdt.DocumentDelta, 0, n)
	for _, d := range deltas {
		docs = append(docs, d.Documents...)
	}
	slices.SortStableFunc(docs, func(a, b crdt.DocumentDelta) int { return strings.Compare(a.Key, b.Key) })
	for i := 0; i < len(docs); {
		n := 1
		for i+n < len(docs) && docs[i+n].Key == docs[i].Key {
			n++
		}
		joined := docs[i]
		if n > 1 {
			cells, err := latest(docs[i : i+n])
			if err != nil {
				return nil, err
			}
			joined.Cells = cells
		}
		all.Documents = append(all.Documents, joined)
		i += n
	}
	return all, nil
}

// latest joins successive changes of one document: each cell as the last of them has it.
func latest(docs []crdt.DocumentDelta) ([]byte, error) {
	newest := make(map[crdt.PathKey]crdt.Cell)
	for _, doc := range docs {
		fields, err := codec.ParseCells(doc.Cells)
		if err != nil {
			return nil, err
		}
		for _, f := range fields {
			newest[f.Path] = f.Cell
		}
	}
	fields := make([]crdt.Field, 0, len(newest))
	for p, c := range newest {
		fields = append(fields, crdt.Field{Path: p, Cell: c})
	}
	slices.SortFunc(fields, func(a, b crdt.Field) int { return strings.Compare(string(a.Path), string(b.Path)) })
	return codec.AppendCells(nil, fields), nil
}
