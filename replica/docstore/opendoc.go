package docstore

import (
	"fmt"
	"sort"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
)

// Sizes of records, in bytes of packed cells. A document is kept in one record up to maxInlineBytes; beyond, in chunks
// of at most maxChunkBytes, so that changing one field rewrites a few kilobytes however large the
// document is. A single cell may be larger and then has a chunk of its own.
const (
	maxInlineBytes = 4 << 10
	maxChunkBytes  = 2 << 10
)

// part is one record of a document: all of it, or one chunk.
type part struct {
	start crdt.PathKey
	*loaded
}

// loaded is what is known of a part once it is loaded; until then it is nil. Of a large document that may be one part of a thousand.
type loaded struct {
	dots     []crdt.Dot // that the stored record refers to, sorted
	segments int        // that the stored chunk is in
	bytes    int        // of the stored cells
}

func (p part) isLoaded() bool { return p.loaded != nil }

// whole is the only part of a document that is in one record.
type whole struct {
	parts [1]part
	part  loaded
}

func (w *whole) asParts() []part {
	w.parts[0].loaded = &w.part
	return w.parts[:]
}

// openDoc is a document being read or changed. Its chunks are loaded as they are needed.
type openDoc struct {
	space   *Space
	from    Reader
	key     string
	found   bool
	arrival uint64
	chunked bool
	root    bool  // chunked: there is a cell at the empty path, as stored
	live    int64 // fields with live entries, as stored
	parts   []part
	pieces  int // that the stored directory is in
	doc     *crdt.Document
}

// open reads a document's record; one that is not there is open and empty.
func (s *Space) open(r Reader, key string) (*openDoc, error) {
	found, err := s.lookUp(r, key)
	if err != nil {
		return nil, err
	}
	return found.open(s, r)
}

// lookup is what is stored under a document's key.
type lookup struct {
	key       string
	k, value  []byte // of the record
	hasRecord bool
}

// lookUp reads a document's record, for who does not have to open it.
func (s *Space) lookUp(r Reader, key string) (lookup, error) {
	l := lookup{key: key, k: s.memory.documentKey(s.number, key)}
	var err error
	if l.value, l.hasRecord, err = r.Get(l.k); err != nil {
		return l, fmt.Errorf("read document %q: %w", key, err)
	}
	return l, nil
}

func (l lookup) open(s *Space, r Reader) (*openDoc, error) {
	if !l.hasRecord {
		return s.newDocument(r, l.key), nil
	}
	return s.openRecord(r, l.key, l.k, l.value)
}

func (s *Space) newDocument(r Reader, key string) *openDoc {
	return &openDoc{space: s, from: r, key: key, parts: new(whole).asParts(), doc: crdt.NewDocument(nil)}
}

// openRecord opens a document whose record was read already.
func (s *Space) openRecord(r Reader, key string, k, value []byte) (*openDoc, error) {
	rec, err := parseRecord(k, value)
	if err != nil {
		return nil, fmt.Errorf("read document %q: %w", key, err)
	}
	d := &openDoc{space: s, from: r, key: key, found: true, arrival: rec.arrival, chunked: rec.chunked, live: rec.live, root: rec.root}
	if rec.chunked {
		d.doc = crdt.NewDocument(nil)
		return d, d.openDirectory()
	}
	fields, err := codec.ParseCells(rec.cells)
	if err != nil {
		return nil, fmt.Errorf("read document %q: %w: %w", key, ErrCorrupt, err)
	}
	d.doc = crdt.NewDocument(fields)
	for _, f := range fields {
		d.live += liveness(f.Cell)
	}
	d.parts = new(whole).asParts()
	d.parts[0].bytes = len(rec.cells)
	d.parts[0].dots, err = codec.AppendDots(nil, rec.cells)
	return d, err
}

func (d *openDoc) openDirectory() error {
	var err error
	if d.parts, d.pieces, err = readDirectory(d.from, d.space.number, d.key); err != nil {
		return fmt.Errorf("read the directory of document %q: %w", d.key, err)
	}
	return nil
}

// partOf returns the index of the part that holds path p, if any part does.
func (d *openDoc) partOf(p crdt.PathKey) int {
	return sort.Search(len(d.parts), func(i int) bool { return d.parts[i].start > p }) - 1
}

func (d *openDoc) load(i int) error {
	p := &d.parts[i]
	if p.isLoaded() {
		return nil
	}
	fields, read, err := d.readPart(i)
	if err != nil {
		return err
	}
	d.doc.Include(fields)
	*p = read
	return nil
}

// readPart reads a chunk: its fields, and what is known of the part once it is loaded.
func (d *openDoc) readPart(i int) ([]crdt.Field, part, error) {
	p := part{start: d.parts[i].start, loaded: &loaded{}}
	cells, segments, err := readChunk(d.from, chunkKey(d.space.number, d.key, p.start))
	if err != nil {
		return nil, p, fmt.Errorf("read document %q: %w", d.key, err)
	}
	var fields []crdt.Field
	fields, p.dots, err = parseChunk(cells)
	if err == nil {
		err = d.checkPart(i, fields)
	}
	if err != nil {
		return nil, p, fmt.Errorf("read document %q: chunk at %s: %w", d.key, p.start, err)
	}
	p.segments, p.bytes = segments, len(cells)
	return fields, p, nil
}

func (d *openDoc) checkPart(i int, fields []crdt.Field) error {
	if i+1 < len(d.parts) {
		return checkBounds(fields, d.parts[i].start, d.parts[i+1].start)
	}
	return checkBounds(fields, d.parts[i].start, "")
}

// checkBounds reports whether the fields of a chunk lie where the directory says that they do: from start up to next, unless that is
// empty. Where they do not, a record is of another time than the others.
func checkBounds(fields []crdt.Field, start, next crdt.PathKey) error {
	n := len(fields)
	if n == 0 || fields[0].Path >= start && (next == "" || fields[n-1].Path < next) {
		return nil
	}
	return fmt.Errorf("%w: it holds paths that belong to others", ErrCorrupt)
}

// loadPath loads the cell at p.
func (d *openDoc) loadPath(p crdt.PathKey) error { return d.load(d.partOf(p)) }

// loadSubtree loads the cells at p and below.
func (d *openDoc) loadSubtree(p crdt.PathKey) error {
	for i := d.partOf(p); i < len(d.parts) && (i == d.partOf(p) || p.Contains(d.parts[i].start)); i++ {
		if err := d.load(i); err != nil {
			return err
		}
	}
	return nil
}

// loadAround loads what an operation on p looks at: the cells above p, at p and below.
func (d *openDoc) loadAround(p crdt.PathKey) error {
	if err := d.loadAbove(p); err != nil {
		return err
	}
	return d.loadSubtree(p)
}

// loadAbove loads the cells above p.
func (d *openDoc) loadAbove(p crdt.PathKey) error {
	for above := p; above != ""; {
		above = above.Parent()
		if above == "" && d.chunked && !d.root {
			break // there is no need to load the first chunk only to learn that
		}
		if err := d.loadPath(above); err != nil {
			return err
		}
	}
	return nil
}

// loadRivals loads the maps that contain p and that a value stands against: the newest entry anywhere in such a map
// decides whether the map shows.
func (d *openDoc) loadRivals(p crdt.PathKey) error {
	for above := p; above != ""; {
		above = above.Parent()
		if len(d.doc.Cell(above).Live) > 0 {
			if err := d.loadSubtree(above); err != nil {
				return err
			}
		}
	}
	return nil
}

// loadView loads all that decides what shows at p and below.
func (d *openDoc) loadView(p crdt.PathKey) error {
	if err := d.loadAround(p); err != nil {
		return err
	}
	return d.loadRivals(p)
}

func (d *openDoc) loadAll() error { return d.loadSubtree("") }

func liveness(c crdt.Cell) int64 {
	if len(c.Live) > 0 {
		return 1
	}
	return 0
}
