package gateway

import (
	"slices"
	"strconv"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

// maxItemBytes bounds a change item, so that one fits in a message. A document that takes more is announced by its size, and is to be read
// by REST.
const maxItemBytes = 7 << 20

// appendItem appends a change as the JSON that all channels carry (docs/http-api.md). It is a pure function of the change.
func appendItem(dst []byte, c replica.Change) []byte {
	start := len(dst)
	dst = appendItemHead(dst, c)
	if c.Document == nil {
		return append(dst, `,"deleted":true}`...)
	}
	head := len(dst)
	var w itemWriter
	w.look(c.Document.Document)
	dst = w.appendBody(dst)
	if size := len(dst) - start; size > maxItemBytes {
		dst = append(dst[:head], `,"large":`...)
		dst = strconv.AppendInt(dst, int64(size), 10)
	}
	return w.appendNewest(dst)
}

func appendItemHead(dst []byte, c replica.Change) []byte {
	dst = appendString(append(dst, `{"key":`...), c.Key)
	dst = append(dst, `,"cursor":"`...)
	dst = append(dst, c.Cursor.String()...)
	return append(dst, '"')
}

// itemWriter writes one document.
type itemWriter struct {
	doc    *crdt.Document
	leaves []crdt.Leaf
	cells  []liveCell
	newest crdt.Entry
	plain  bool // every cell shows and has one entry
}

// liveCell is one live entry: where it stands, and whether it alone is a leaf of what shows.
type liveCell struct {
	dot  crdt.Dot
	path crdt.PathKey
	sole bool
}

func (w *itemWriter) look(doc *crdt.Document) {
	w.doc = doc
	for p, v := range doc.Leaves() {
		w.leaves = append(w.leaves, crdt.Leaf{Path: p, Value: v})
	}
	w.plain = true
	rest := w.leaves
	for f := range doc.Fields() {
		for len(rest) > 0 && rest[0].Path < f.Path {
			rest = rest[1:]
		}
		shows := len(rest) > 0 && rest[0].Path == f.Path
		if shows && f.Path == "" && rest[0].Value.Kind() != crdt.EmptyMap {
			shows = false // it shows as the member "", which is another path
		}
		sole := shows && len(f.Cell.Live) == 1
		for _, e := range f.Cell.Live {
			w.cells = append(w.cells, liveCell{e.Dot, f.Path, sole})
			w.plain = w.plain && sole
			if e.Stamp > w.newest.Stamp || e.Stamp == w.newest.Stamp && e.Author > w.newest.Author {
				w.newest = e
			}
		}
	}
	slices.SortStableFunc(w.cells, func(a, b liveCell) int { return a.dot.Compare(b.dot) })
}

func (w *itemWriter) appendBody(dst []byte) []byte {
	dst = append(dst, `,"doc":`...)
	dst = appendObject(dst, func(yield func(crdt.PathKey, crdt.Value) bool) {
		for _, l := range w.leaves {
			if !yield(l.Path, l.Value) {
				return
			}
		}
	})
	dst = w.appendDots(dst)
	dst = w.appendCounters(dst)
	if w.plain {
		return dst
	}
	return w.appendConflicts(dst)
}

// appendDots appends the live dots. Most documents are of few transactions, so the one that wrote most of the leaves is not given their paths:
// true stands for all leaves that no other dot names.
func (w *itemWriter) appendDots(dst []byte) []byte {
	most, mostCells := -1, 0
	for i := 0; i < len(w.cells); {
		end, sole := w.group(i)
		if sole && end-i > mostCells {
			most, mostCells = i, end-i
		}
		i = end
	}
	dst = append(dst, `,"dots":{`...)
	for i := 0; i < len(w.cells); {
		end, _ := w.group(i)
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendDot(append(dst, '"'), w.cells[i].dot), `":`...)
		if i == most {
			dst = append(dst, "true"...)
		} else {
			for k, c := range w.cells[i:end] {
				dst = append(dst, "[,"[min(k, 1)])
				dst = appendString(dst, c.path.String())
			}
			dst = append(dst, ']')
		}
		i = end
	}
	return append(dst, '}')
}

// group returns the end of the cells of one dot, and whether it is the only one of each and each is a leaf.
func (w *itemWriter) group(i int) (end int, sole bool) {
	sole = true
	for end = i; end < len(w.cells) && w.cells[end].dot == w.cells[i].dot; end++ {
		sole = sole && w.cells[end].sole
	}
	return end, sole
}

func (w *itemWriter) appendCounters(dst []byte) []byte {
	n := 0
	for _, l := range w.leaves {
		if l.Value.Kind() != crdt.Counter {
			continue
		}
		if n == 0 {
			dst = append(dst, `,"counters":`...)
		}
		dst = appendString(append(dst, "[,"[min(n, 1)]), l.Path.String())
		n++
	}
	if n > 0 {
		dst = append(dst, ']')
	}
	return dst
}

func (w *itemWriter) appendConflicts(dst []byte) []byte {
	conflicts := w.doc.Conflicts()
	if len(conflicts) == 0 {
		return dst
	}
	dst = append(dst, `,"conflicts":`...)
	for i, c := range conflicts {
		dst = append(dst, "[,"[min(i, 1)])
		dst = appendString(append(dst, `{"path":`...), c.Path.String())
		dst = appendValue(append(dst, `,"value":`...), c.Value)
		dst = append(append(append(dst, `,"author":"`...), c.Author.String()...), `","at":`...)
		dst = strconv.AppendInt(dst, c.Time.UnixMilli(), 10)
		dst = appendString(append(dst, `,"shownAt":`...), c.ShownAt.String())
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

func (w *itemWriter) appendNewest(dst []byte) []byte {
	dst = append(dst, `,"at":`...)
	dst = strconv.AppendInt(dst, w.newest.Stamp.UnixMilli(), 10)
	dst = append(dst, `,"author":"`...)
	return append(append(dst, w.newest.Author.String()...), `"}`...)
}
