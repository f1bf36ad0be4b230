package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

// matches reports whether a tag is among those of If-Match or If-None-Match. weak: a tag that says no more than that the contents mean the
// same counts too.
func matches(lists []string, tag string, weak bool) bool {
	for _, list := range lists {
		for one := range strings.SplitSeq(list, ",") { // ours have no comma
			one = strings.TrimSpace(one)
			if weak {
				one = strings.TrimPrefix(one, "W/")
			}
			if tag != "" && (one == "*" || one == tag) {
				return true
			}
		}
	}
	return false
}

// checkPreconditions holds a write to what its author has seen. It is called in the transaction, so nothing comes in between.
func checkPreconditions(r *http.Request, doc *replica.TxDoc) error {
	match, none := r.Header.Values("If-Match"), r.Header.Values("If-None-Match")
	if len(match) == 0 && len(none) == 0 {
		return nil
	}
	d, err := doc.Document()
	if err != nil {
		return err
	}
	tag := etagOf(d)
	switch {
	case len(match) > 0 && !matches(match, tag, false):
		return preconditionFailed(tag)
	case len(none) > 0 && matches(none, tag, true):
		return preconditionFailed(tag)
	}
	return nil
}

func preconditionFailed(tag string) *Problem {
	detail := "the document does not exist"
	if tag != "" {
		detail = "the document is another one by now: its ETag is " + tag
	}
	return &Problem{Status: http.StatusPreconditionFailed, Code: CodePreconditionFailed, Detail: detail}
}

// waiting says how many other nodes a write is to reach before it is answered.
type waiting struct {
	nodes int
	most  time.Duration
}

func parseWaiting(q url.Values) (waiting, error) {
	var wt waiting
	text := q.Get("replicas")
	if text == "" {
		return wt, nil
	}
	var err error
	if wt.nodes, err = strconv.Atoi(text); err != nil || wt.nodes < 1 || wt.nodes > maxReplicas {
		return wt, badRequest("replicas: want a number of other nodes from 1 to " + strconv.Itoa(maxReplicas))
	}
	wt.most = defaultWait
	if text := q.Get("wait"); text != "" {
		if wt.most, err = time.ParseDuration(text); err != nil || wt.most < 0 {
			return wt, badRequest("wait: want a time with a unit, as 10s")
		}
		wt.most = min(wt.most, maxWait)
	}
	return wt, nil
}

// finish makes the answer to a write that is durable here, once enough other nodes have it or the time is over.
func (wt waiting) finish(ctx context.Context, s *replica.Space, rc replica.Receipt) (written, error) {
	a := written{Cursor: s.Cursor().String()}
	if !rc.Dot.IsZero() {
		a.Dot = string(appendDot(nil, rc.Dot))
	}
	if wt.nodes == 0 {
		return a, nil
	}
	waiting, cancel := context.WithTimeout(ctx, wt.most)
	defer cancel()
	err := s.WaitSynced(waiting, rc, wt.nodes)
	if err != nil && (ctx.Err() != nil || waiting.Err() == nil) {
		return a, err
	}
	have := s.Synced(rc)
	if rc.Dot.IsZero() {
		have = wt.nodes // a change that is none is everywhere
	}
	a.Replicated = &have
	return a, nil
}

// edit is one write to one document.
type edit struct {
	apply func(*replica.TxDoc) error
	field bool // it is one of a field: what else is in the document does not matter
	// What the transaction tells, unless it is of a field:
	existed bool
	tag     string // after it
}

// run makes the edit.
func (g *Gateway) run(w http.ResponseWriter, r *http.Request, gr Grant, e *edit) (written, error) {
	wt, err := parseWaiting(r.URL.Query())
	if err != nil {
		return written{}, err
	}
	key := r.PathValue("key")
	if err := crdt.CheckKey(key); err != nil {
		return written{}, err
	}
	s, err := g.space(gr, r.PathValue("space"), replica.WriteRights)
	if err != nil {
		return written{}, err
	}
	g.boundAnswer(w, wt.most) // only the waiting has the time that begin gave it: a write that has begun is not given up
	rc, err := s.Update(r.Context(), func(tx *replica.Tx) error {
		doc := tx.Doc(key)
		if err := checkPreconditions(r, doc); err != nil {
			return err
		}
		if e.field {
			return e.apply(doc)
		}
		d, err := doc.Document()
		if err != nil {
			return err
		}
		e.existed = d.IsLive()
		if err := e.apply(doc); err != nil {
			return err
		}
		if d, err = doc.Document(); err == nil {
			e.tag = etagOf(d)
		}
		return err
	})
	if err != nil {
		return written{}, err
	}
	a, err := wt.finish(r.Context(), s, rc)
	a.ETag = e.tag
	return a, err
}

// answerEdit answers a write of a whole document.
func answerEdit(w http.ResponseWriter, e *edit, a written) error {
	status := http.StatusOK
	if !e.existed {
		status = http.StatusCreated
	}
	w.Header().Set("ETag", a.ETag)
	w.Header().Set(cursorHeader, a.Cursor)
	return writeJSON(w, status, a)
}

func (g *Gateway) putDocument(w http.ResponseWriter, r *http.Request, gr Grant) error {
	return g.edit(w, r, gr, []string{mediaJSON}, func(doc *replica.TxDoc, leaves []crdt.Leaf) error { return doc.Replace(leaves) })
}

func (g *Gateway) patchDocument(w http.ResponseWriter, r *http.Request, gr Grant) error {
	w.Header().Set("Accept-Patch", mediaMergePatch)
	return g.edit(w, r, gr, []string{mediaMergePatch, mediaJSON}, mergePatch)
}

// edit reads a document from the body and applies it.
func (g *Gateway) edit(w http.ResponseWriter, r *http.Request, gr Grant, types []string, apply func(*replica.TxDoc, []crdt.Leaf) error) error {
	text, release, err := g.body(r, types...)
	if err != nil {
		return err
	}
	defer release()
	leaves, err := crdt.ParseJSON(text)
	if err != nil {
		return err
	}
	e := edit{apply: func(doc *replica.TxDoc) error { return apply(doc, leaves) }}
	a, err := g.run(w, r, gr, &e)
	if err != nil {
		return err
	}
	return answerEdit(w, &e, a)
}

func (g *Gateway) deleteDocument(w http.ResponseWriter, r *http.Request, gr Grant) error {
	e := edit{}
	e.apply = func(doc *replica.TxDoc) error {
		if !e.existed {
			return fmt.Errorf("%w: %.80q", replica.ErrNotFound, doc.Key())
		}
		return doc.Delete()
	}
	a, err := g.run(w, r, gr, &e)
	if err != nil {
		return err
	}
	w.Header().Set(cursorHeader, a.Cursor)
	if a.Replicated != nil { // asked for, so there is something to say
		return writeJSON(w, http.StatusOK, a)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (g *Gateway) incrementDocument(w http.ResponseWriter, r *http.Request, gr Grant) error {
	q := r.URL.Query()
	path, err := crdt.ParsePath(q.Get("increment"))
	by := int64(1)
	switch {
	case err != nil:
	case !q.Has("increment") || len(path) == 0:
		err = badRequest("increment: want the path of a counter, as ?increment=/views&by=1")
	case q.Get("by") != "":
		if by, err = strconv.ParseInt(q.Get("by"), 10, 64); err != nil {
			err = badRequest("by: want an integer of 64 bits")
		}
	}
	if err != nil {
		return err
	}
	var shown any
	e := edit{field: true, apply: func(doc *replica.TxDoc) error {
		err := doc.Increment(path, by)
		if err == nil {
			shown, _, err = doc.Get(path)
		}
		return err
	}}
	a, err := g.run(w, r, gr, &e)
	if err != nil {
		return err
	}
	value, err := json.Marshal(shown)
	if err != nil {
		return err
	}
	w.Header().Set(cursorHeader, a.Cursor)
	return writeJSON(w, http.StatusOK, incremented{Value: value, written: a})
}

// errorAt says which operation of several an error is about.
func errorAt(i int, err error) error {
	p := *problemOf(err)
	if p.Code == CodeInternal || p.Code == CodeBusy {
		return err
	}
	p.Detail = fmt.Sprintf("ops[%d]: %s", i, p.Detail)
	return &p
}

func (g *Gateway) runBatch(w http.ResponseWriter, r *http.Request, gr Grant) error {
	a, err := g.tryBatch(w, r, gr)
	if err != nil {
		return err
	}
	w.Header().Set(cursorHeader, a.Cursor)
	return writeJSON(w, http.StatusOK, a)
}

func (g *Gateway) tryBatch(w http.ResponseWriter, r *http.Request, gr Grant) (written, error) {
	wt, err := parseWaiting(r.URL.Query())
	if err != nil {
		return written{}, err
	}
	text, release, err := g.body(r, mediaJSON)
	if err != nil {
		return written{}, err
	}
	defer release()
	ops, err := parseBatch(text)
	if err != nil {
		return written{}, err
	}
	s, err := g.space(gr, r.PathValue("space"), replica.WriteRights)
	if err != nil {
		return written{}, err
	}
	g.boundAnswer(w, wt.most)
	rc, err := s.Update(r.Context(), func(tx *replica.Tx) error {
		for i := range ops {
			if err := ops[i].run(tx.Doc(ops[i].key)); err != nil {
				return errorAt(i, err)
			}
		}
		return nil
	})
	if err != nil {
		return written{}, err
	}
	return wt.finish(r.Context(), s, rc)
}
