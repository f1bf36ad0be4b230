package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

type (
	conflictsAnswer struct {
		Conflicts []conflictedAnswer `json:"conflicts"`
		Count     int64              `json:"count"`     // values in the whole space
		Documents int64              `json:"documents"` // that have any, in the whole space
		Next      string             `json:"next,omitempty"`
	}
	conflictedAnswer struct {
		Key   string `json:"key"`
		Count int64  `json:"count"`
	}
	// contestsAnswer lists the places of a document where values compete.
	contestsAnswer struct {
		Key      string          `json:"key"`
		ETag     string          `json:"etag"`
		Count    int             `json:"count"` // values that do not show
		Contests []contestAnswer `json:"contests"`
	}
	contestAnswer struct {
		Path   string          `json:"path"`
		Shown  json.RawMessage `json:"shown"`
		Author string          `json:"author"`
		At     int64           `json:"at"` // Unix milliseconds
		Lost   []lostAnswer    `json:"lost"`
	}
	lostAnswer struct {
		Path   string          `json:"path"` // that of the contest, or one below
		Value  json.RawMessage `json:"value"`
		Author string          `json:"author"`
		At     int64           `json:"at"`
	}
	settledAnswer struct {
		Settled int `json:"settled"` // values that were given up or chosen
		Left    int `json:"left"`    // in the whole document
		written
	}
)

func (g *Gateway) listConflicts(w http.ResponseWriter, r *http.Request, gr Grant) error {
	p, err := page(r.URL.Query())
	if err != nil {
		return err
	}
	s, err := g.readable(gr, r.PathValue("space"))
	if err != nil {
		return err
	}
	a := conflictsAnswer{Conflicts: []conflictedAnswer{}}
	a.Count, a.Documents = s.ConflictCount()
	limit := p.Limit
	p.Limit++
	for c, err := range s.ConflictDocs(r.Context(), p) {
		if err != nil {
			return err
		}
		if len(a.Conflicts) == limit {
			a.Next = a.Conflicts[limit-1].Key
			break
		}
		a.Conflicts = append(a.Conflicts, conflictedAnswer{Key: c.Key, Count: c.Conflicts})
	}
	return writeJSON(w, http.StatusOK, a)
}

func (g *Gateway) getConflicts(w http.ResponseWriter, r *http.Request, gr Grant) error {
	s, err := g.readable(gr, r.PathValue("space"))
	if err != nil {
		return err
	}
	doc, err := s.Get(r.Context(), r.PathValue("key"))
	if err != nil {
		return err
	}
	a := contestsAnswer{Key: doc.Key, ETag: etagOf(doc.Document), Contests: []contestAnswer{}}
	for _, c := range doc.Contests() {
		one := contestAnswer{Path: c.Path.String(), Shown: shownAt(doc.Document, c), Author: c.Author.String(), At: c.Time.UnixMilli()}
		for _, l := range c.Lost {
			one.Lost = append(one.Lost, lostAnswer{Path: l.Path.String(), Value: l.Value.AppendJSON(nil), Author: l.Author.String(), At: l.Time.UnixMilli()})
			a.Count++
		}
		a.Contests = append(a.Contests, one)
	}
	w.Header().Set("ETag", a.ETag)
	w.Header().Set(cursorHeader, doc.Cursor.String())
	return writeJSON(w, http.StatusOK, a)
}

// shownAt returns what shows at the path of a contest: the value, or the map whose fields show.
func shownAt(doc *crdt.Document, c crdt.Contest) []byte {
	if c.Shown.Kind() != crdt.EmptyMap {
		return c.Shown.AppendJSON(nil)
	}
	return crdt.AppendLeavesJSON(nil, c.Path, func(yield func(crdt.PathKey, crdt.Value) bool) {
		for p, v := range doc.Leaves() {
			if c.Path.Contains(p) && !yield(p, v) {
				return
			}
		}
	})
}

// settleRequest says how to settle: by a rule all conflicts at the path and below, or the one contest at the path by one of the values
// that lost, or by a value of its own.
type settleRequest struct {
	Path  string         `json:"path"`
	Rule  string         `json:"rule"`
	Index *int           `json:"index"`
	Value jsontext.Value `json:"value"`
}

// ruleLastWriteWins lets what shows stay.
const ruleLastWriteWins = "last-write-wins"

// parseSettle returns what to do in the transaction; it tells how many values that settled.
func parseSettle(text []byte) (func(*replica.TxDoc) (int, error), error) {
	var req settleRequest
	if err := jsonv2.Unmarshal(text, &req, jsonv2.RejectUnknownMembers(true)); err != nil {
		return nil, badRequest(shorten(err.Error()))
	}
	path, err := crdt.ParsePath(req.Path)
	if err != nil {
		return nil, err
	}
	at, err := path.Pack()
	if err != nil {
		return nil, err
	}
	switch {
	case req.Rule != "" && req.Index == nil && req.Value == nil:
		if req.Rule != ruleLastWriteWins {
			return nil, badRequest(fmt.Sprintf("rule %.40q: want %s", req.Rule, ruleLastWriteWins))
		}
		return func(d *replica.TxDoc) (int, error) {
			return d.Settle(path, func(crdt.Contest) crdt.Verdict { return crdt.KeepShown() })
		}, nil
	case req.Rule == "" && req.Index != nil && req.Value == nil:
		return func(d *replica.TxDoc) (int, error) { return takeLost(d, path, at, *req.Index) }, nil
	case req.Rule == "" && req.Index == nil && req.Value != nil:
		leaves, err := parseAt(at, req.Value)
		return func(d *replica.TxDoc) (int, error) { return overwrite(d, path, leaves) }, err
	}
	return nil, badRequest(`want one of "rule", "index" and "value" beside "path"`)
}

// takeLost lets the value show that has this number among those that lost at the path.
func takeLost(d *replica.TxDoc, path crdt.Path, at crdt.PathKey, index int) (int, error) {
	taken := false
	settled, err := d.Settle(path, func(c crdt.Contest) crdt.Verdict {
		if taken || c.Path != at || index < 0 || index >= len(c.Lost) {
			return crdt.LeaveOpen()
		}
		taken = true
		return crdt.TakeLost(index)
	})
	if err == nil && !taken {
		err = &Problem{Status: http.StatusConflict, Code: CodeConflict, Detail: fmt.Sprintf("no value has lost at %.80q under the number %d: it was settled meanwhile, read the conflicts again", path, index)}
	}
	return settled, err
}

// overwrite writes a value in the place of all that compete at the path.
func overwrite(d *replica.TxDoc, path crdt.Path, leaves []crdt.Leaf) (int, error) {
	before, err := d.Conflicts(path)
	if err != nil {
		return 0, err
	}
	if err := d.SetLeaves(path, leaves); err != nil {
		return 0, err
	}
	after, err := d.Conflicts(path)
	return len(before) - len(after), err
}

func (g *Gateway) settleConflicts(w http.ResponseWriter, r *http.Request, gr Grant) error {
	text, release, err := g.body(r, mediaJSON)
	if err != nil {
		return err
	}
	defer release()
	settle, err := parseSettle(text)
	if err != nil {
		return err
	}
	var a settledAnswer
	e := edit{}
	e.apply = func(doc *replica.TxDoc) error {
		if !e.existed {
			return fmt.Errorf("%w: %.80q", replica.ErrNotFound, doc.Key())
		}
		var err error
		if a.Settled, err = settle(doc); err != nil {
			return err
		}
		d, err := doc.Document()
		if err == nil {
			a.Left = d.ConflictCount()
		}
		return err
	}
	if a.written, err = g.run(w, r, gr, &e); err != nil {
		return err
	}
	w.Header().Set("ETag", a.ETag)
	w.Header().Set(cursorHeader, a.Cursor)
	return writeJSON(w, http.StatusOK, a)
}
