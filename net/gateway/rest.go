package gateway

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

// Bounds of what REST answers and waits for.
const (
	defaultPage  = 100
	maxPage      = 1000
	maxPageBytes = 4 << 20 // beyond it a page ends early
	defaultWait  = 10 * time.Second
	maxWait      = time.Minute
	maxReplicas  = 128
)

// The headers of ours.
const (
	cursorHeader    = "Anabranch-Cursor"
	conflictsHeader = "Anabranch-Conflicts"
)

// routeREST registers the routes of documents.
func (g *Gateway) routeREST(routes *router) {
	routes.HandleFunc("GET /v1/openapi.json", serveOpenAPI)
	routes.HandleFunc("GET /v1/spaces", g.answered(g.listSpaces))
	routes.HandleFunc("GET /v1/spaces/{space}/status", g.answered(g.getStatus))
	routes.HandleFunc("GET /v1/spaces/{space}/docs", g.answered(g.listDocuments))
	routes.HandleFunc("GET /v1/spaces/{space}/docs/{key...}", g.answered(g.getDocument))
	routes.HandleFunc("PUT /v1/spaces/{space}/docs/{key...}", g.answered(g.putDocument))
	routes.HandleFunc("PATCH /v1/spaces/{space}/docs/{key...}", g.answered(g.patchDocument))
	routes.HandleFunc("DELETE /v1/spaces/{space}/docs/{key...}", g.answered(g.deleteDocument))
	routes.HandleFunc("POST /v1/spaces/{space}/docs/{key...}", g.answered(g.incrementDocument))
	routes.HandleFunc("POST /v1/spaces/{space}/batch", g.answered(g.runBatch))
	routes.HandleFunc("GET /v1/spaces/{space}/conflicts", g.answered(g.listConflicts))
	routes.HandleFunc("GET /v1/spaces/{space}/conflicts/{key...}", g.answered(g.getConflicts))
	routes.HandleFunc("POST /v1/spaces/{space}/conflicts/{key...}", g.answered(g.settleConflicts))
	g.routeNode(routes)
	routes.fallback = g.files.ServeHTTP
}

// answered is a handler that a token is needed for, with the usual time to be answered in. An error that it returns is the answer, and is
// logged if it is the node's own.
func (g *Gateway) answered(h func(http.ResponseWriter, *http.Request, Grant) error) http.HandlerFunc {
	return g.granted(func(w http.ResponseWriter, r *http.Request, gr Grant) {
		g.begin(w, r, 0)
		err := h(w, r, gr)
		if err == nil {
			return
		}
		if problemOf(err).Code == CodeInternal {
			g.cfg.Logger.Error("a request failed", "method", r.Method, "path", r.URL.Path, "error", err)
		}
		writeProblem(w, err)
	})
}

// writeJSON answers with an object.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	text, err := json.Marshal(v)
	if err == nil {
		writeText(w, status, text)
	}
	return err
}

// writeText answers with JSON that is written already.
func writeText(w http.ResponseWriter, status int, text []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write(text) // an error means that the client has gone, and there is nobody to tell
}

// body reads the body of a request, of one of the given media types, if there is room for it. The caller calls release when it needs it no
// more.
func (g *Gateway) body(r *http.Request, types ...string) (text []byte, release func(), err error) {
	if err := checkMedia(r, types); err != nil {
		return nil, nil, err
	}
	release, err = g.usage.room(r.Context(), r.ContentLength)
	if err != nil {
		return nil, nil, err
	}
	text, err = io.ReadAll(r.Body)
	if err == nil {
		return text, release, nil
	}
	release()
	switch tooLong := (*http.MaxBytesError)(nil); {
	case errors.As(err, &tooLong):
		return nil, nil, err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, nil, &Problem{Status: http.StatusRequestTimeout, Code: CodeTimeout, Detail: fmt.Sprintf("the body did not come within %s", g.usage.Timeout)}
	}
	return nil, nil, badRequest("the body broke off")
}

// checkMedia takes a body without a type, and what curl calls its data unless told otherwise: who may ask is known by the token and the Origin, not
// by the type.
func checkMedia(r *http.Request, types []string) error {
	if enc := r.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return &Problem{Status: http.StatusUnsupportedMediaType, Code: CodeMediaType, Detail: "the body must not be compressed"}
	}
	text := r.Header.Get("Content-Type")
	media, params, err := mime.ParseMediaType(text)
	charset := params["charset"]
	switch {
	case text == "":
		return nil
	case err == nil && (charset == "" || strings.EqualFold(charset, "utf-8")) && (media == "application/x-www-form-urlencoded" || slices.Contains(types, media)):
		return nil
	}
	return &Problem{Status: http.StatusUnsupportedMediaType, Code: CodeMediaType, Detail: "the body must be " + strings.Join(types, " or ")}
}

const (
	mediaJSON       = "application/json"
	mediaMergePatch = "application/merge-patch+json"
)

// The forms of answers that are not documents.
type (
	spacesAnswer struct {
		Spaces []spaceAnswer `json:"spaces"`
	}
	spaceAnswer struct {
		Name      string `json:"name"`
		ID        string `json:"id,omitempty"`
		Rights    string `json:"rights"` // what can be done: of the token and the node, the less
		Documents int64  `json:"documents"`
		Conflicts int64  `json:"conflicts"`
	}
	// written is the answer to a write.
	written struct {
		Cursor     string `json:"cursor"`
		Dot        string `json:"dot,omitempty"` // absent if it changed nothing
		ETag       string `json:"etag,omitempty"`
		Replicated *int   `json:"replicated,omitempty"` // if it was asked for
	}
	incremented struct {
		Value json.RawMessage `json:"value"`
		written
	}
)

func (g *Gateway) listSpaces(w http.ResponseWriter, r *http.Request, gr Grant) error {
	a := spacesAnswer{Spaces: []spaceAnswer{}}
	for _, s := range g.visible(gr) {
		st := s.Summary()
		one := spaceAnswer{Name: s.Name(), Rights: min(gr.Rights, s.Rights()).String(), Documents: st.Documents, Conflicts: st.Conflicts}
		if id, ok := s.ID(); ok {
			one.ID = id.String()
		}
		a.Spaces = append(a.Spaces, one)
	}
	return writeJSON(w, http.StatusOK, a)
}

func (g *Gateway) getStatus(w http.ResponseWriter, r *http.Request, gr Grant) error {
	s, err := g.readable(gr, r.PathValue("space"))
	if err != nil {
		return err
	}
	m, err := s.Metrics(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, g.spaceView(&m, gr, gr.Space == AllSpaces || gr.Rights >= replica.AdminRights))
}

// etagOf names the state of a document: a hash of which dots are live in which cells. Two states with one tag show the same, and have
// the same conflicts. That of a document that does not exist is empty.
func etagOf(d *crdt.Document) string {
	var h xxh3.Hasher
	live := false
	var b []byte
	for f := range d.Fields() {
		if len(f.Cell.Live) == 0 {
			continue
		}
		live = true
		b = append(b[:0], f.Path...)
		for _, e := range f.Cell.Live {
			b = append(b, 0xff) // in no path, which is UTF-8
			b = appendDot(b, e.Dot)
		}
		b = append(b, 0xfe)
		_, _ = h.Write(b) // never fails
	}
	if !live {
		return ""
	}
	sum := h.Sum128().Bytes()
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

func (g *Gateway) getDocument(w http.ResponseWriter, r *http.Request, gr Grant) error {
	meta, err := boolean(r.URL.Query(), "meta")
	if err != nil {
		return err
	}
	s, err := g.readable(gr, r.PathValue("space"))
	if err != nil {
		return err
	}
	doc, err := s.Get(r.Context(), r.PathValue("key"))
	if err != nil {
		return err
	}
	tag := etagOf(doc.Document)
	h := w.Header()
	h.Set("ETag", tag)
	h.Set("Cache-Control", "private, no-cache")
	h.Set(cursorHeader, doc.Cursor.String())
	if n := doc.ConflictCount(); n > 0 {
		h.Set(conflictsHeader, strconv.Itoa(n))
	}
	if none := r.Header.Values("If-None-Match"); len(none) > 0 && matches(none, tag, true) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if meta {
		writeText(w, http.StatusOK, appendItem(nil, replica.Change{Cursor: doc.Cursor, Key: doc.Key, Document: doc}))
		return nil
	}
	writeText(w, http.StatusOK, doc.AppendJSON(nil))
	return nil
}

// boolean reads a parameter that is 1 or 0.
func boolean(q url.Values, name string) (bool, error) {
	switch q.Get(name) {
	case "":
		if q.Has(name) {
			return true, nil
		}
		return false, nil
	case "0", "false":
		return false, nil
	case "1", "true":
		return true, nil
	}
	return false, badRequest(name + ": want 1 or 0")
}

// page reads the parameters of a list.
func page(q url.Values) (replica.Range, error) {
	p := replica.Range{Prefix: q.Get("prefix"), After: q.Get("after"), Limit: defaultPage}
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return p, badRequest("limit: want a number from 1 to " + strconv.Itoa(maxPage))
		}
		p.Limit = min(n, maxPage)
	}
	if len(p.Prefix) > crdt.MaxKeyBytes || len(p.After) > crdt.MaxKeyBytes {
		return p, badRequest("prefix and after: no key is that long")
	}
	return p, nil
}

func (g *Gateway) listDocuments(w http.ResponseWriter, r *http.Request, gr Grant) error {
	q := r.URL.Query()
	p, err := page(q)
	keys, err1 := boolean(q, "keys")
	meta, err2 := boolean(q, "meta")
	if err = errors.Join(err, err1, err2); err != nil {
		return err
	}
	s, err := g.readable(gr, r.PathValue("space"))
	if err != nil {
		return err
	}
	l := listing{text: []byte(`{"documents":[`), limit: p.Limit}
	p.Limit++ // the one more tells that there is a next page
	if keys {
		err = l.addKeys(r.Context(), s, p)
	} else {
		err = l.addDocuments(r.Context(), s, p, meta)
	}
	if err != nil {
		return err
	}
	writeText(w, http.StatusOK, l.end())
	return nil
}

// listing is a page of documents being written.
type listing struct {
	text  []byte
	limit int
	n     int
	last  string
	more  bool
}

// take begins an item. It reports false if the page is full.
func (l *listing) take(key string) bool {
	if l.n == l.limit || l.n > 0 && len(l.text) > maxPageBytes {
		l.more = true
		return false
	}
	if l.n > 0 {
		l.text = append(l.text, ',')
	}
	l.n++
	l.last = key
	return true
}

func (l *listing) addKeys(ctx context.Context, s *replica.Space, p replica.Range) error {
	for key, err := range s.Keys(ctx, p) {
		if err != nil {
			return err
		}
		if !l.take(key) {
			return nil
		}
		l.text = append(appendString(append(l.text, `{"key":`...), key), '}')
	}
	return nil
}

func (l *listing) addDocuments(ctx context.Context, s *replica.Space, p replica.Range, meta bool) error {
	for d, err := range s.ScanRange(ctx, p) {
		if err != nil {
			return err
		}
		if !l.take(d.Key) {
			return nil
		}
		if meta {
			l.text = appendItem(l.text, replica.Change{Cursor: d.Cursor, Key: d.Key, Document: d})
			continue
		}
		l.text = appendString(append(l.text, `{"key":`...), d.Key)
		l.text = appendString(append(l.text, `,"etag":`...), etagOf(d.Document))
		l.text = append(d.AppendJSON(append(l.text, `,"doc":`...)), '}')
	}
	return nil
}

func (l *listing) end() []byte {
	l.text = append(l.text, ']')
	if l.more {
		l.text = appendString(append(l.text, `,"next":`...), l.last)
	}
	return append(l.text, '}')
}
