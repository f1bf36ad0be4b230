package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

// The messages that clients send over a WebSocket, and the bodies that they post. Parsing is strict where a mistake could be taken for
// something else: names are told apart by case, a name that occurs twice is refused, so is text that is not UTF-8, and a message of an unknown
// type. Members that are not known are ignored, for they are of a newer client.

// Limits of what a client sends.
const (
	// maxMessageBytes bounds a message: a transaction of the greatest size fits.
	maxMessageBytes = 8 << 20
	// maxSubscriptions bounds the subscriptions of one connection.
	maxSubscriptions = 100
	// maxSubBytes bounds the name that a client gives to a subscription.
	maxSubBytes = 64
	// maxFollowedKeys bounds the keys of one subscription.
	maxFollowedKeys = 1000
	// maxCredit bounds what a client may have granted and we have not used.
	maxCredit = 1000
	// maxTransactions bounds those of one push.
	maxTransactions = 1000
	// maxReplicate bounds how many nodes a client can wait for.
	maxReplicate = 16
	// maxTokenBytes bounds a token.
	maxTokenBytes = 4096
	// maxVectorBytes bounds a portable cursor, in either direction.
	maxVectorBytes = 64 << 10
)

type (
	helloMessage struct {
		Token string `json:"token"`
		Agent string `json:"agent"`
	}
	tokenMessage struct {
		Token string `json:"token"`
	}
	subscribeMessage struct {
		Sub         string
		Space       string
		Filter      filter
		Since       replica.Cursor
		Vector      *crdt.VersionVector // nil: none
		Credit      int
		Checkpoints bool
	}
	creditMessage struct {
		Sub string `json:"sub"`
		Add int    `json:"add"`
	}
	unsubscribeMessage struct {
		Sub string `json:"sub"`
	}
	pingMessage struct {
		N uint64 `json:"n"`
	}
	// pushMessage is also the body of a POST, then without Space.
	pushMessage struct {
		Space        string
		Node         string // that the client takes this to be; "": it does not care
		Client       crdt.ReplicaID
		Floor        uint64
		Replicate    int
		Transactions []pushedTransaction
	}
)

// pushedTransaction is one that was parsed, or why it could not be.
type pushedTransaction struct {
	replica.ClientTransaction
	rejected *replica.ClientRejection
}

// badMessage is the problem of a message that does not parse.
func badMessage(format string, args ...any) *Problem {
	return &Problem{Status: http.StatusBadRequest, Code: CodeBadRequest, Detail: fmt.Sprintf(format, args...)}
}

// unmarshal reads a JSON object strictly.
func unmarshal(text []byte, v any) error {
	if err := json.Unmarshal(text, v); err != nil {
		return badMessage("%s", shorten(err.Error()))
	}
	return nil
}

// unmarshalLoosely lets names occur twice, and text not be UTF-8, where something that was found to be wrong is looked for.
func unmarshalLoosely(text []byte, v any) error {
	if err := json.Unmarshal(text, v, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)); err != nil {
		return badMessage("%s", shorten(err.Error()))
	}
	return nil
}

// shorten keeps an error that quotes its input readable.
func shorten(s string) string {
	const most = 500
	if len(s) <= most {
		return s
	}
	s = s[:most]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}

// parseMessage reads one message of a client. Its result is a pointer to one of the types above; the error is a *Problem.
func parseMessage(text []byte) (any, error) {
	var head struct {
		Type string `json:"type"`
	}
	if err := unmarshalLoosely(text, &head); err != nil {
		return nil, err
	}
	switch head.Type {
	case "hello":
		m := new(helloMessage)
		return m, errors.Join(unmarshal(text, m), checkToken(m.Token, true))
	case "token":
		m := new(tokenMessage)
		return m, errors.Join(unmarshal(text, m), checkToken(m.Token, false))
	case "subscribe":
		return parseSubscribe(text)
	case "credit":
		m := new(creditMessage)
		err := unmarshal(text, m)
		if err == nil && (m.Add < 1 || m.Add > maxCredit) {
			err = badMessage("add must be 1 to %d", maxCredit)
		}
		return m, err
	case "unsubscribe":
		m := new(unsubscribeMessage)
		return m, unmarshal(text, m)
	case "push":
		return parsePush(text)
	case "ping":
		m := new(pingMessage)
		return m, unmarshal(text, m)
	}
	return nil, badMessage("unknown type of message %.40q", head.Type)
}

func checkToken(token string, optional bool) error {
	if token == "" && !optional || len(token) > maxTokenBytes {
		return badMessage("token must be text of 1 to %d bytes", maxTokenBytes)
	}
	return nil
}

func parseSubscribe(text []byte) (*subscribeMessage, error) {
	var w struct {
		Sub         string    `json:"sub"`
		Space       string    `json:"space"`
		Prefix      string    `json:"prefix"`
		Keys        *[]string `json:"keys"`
		Since       string    `json:"since"`
		Vector      string    `json:"vector"`
		Credit      int       `json:"credit"`
		Checkpoints bool      `json:"checkpoints"`
	}
	if err := unmarshal(text, &w); err != nil {
		return nil, err
	}
	m := &subscribeMessage{Sub: w.Sub, Space: w.Space, Credit: w.Credit, Checkpoints: w.Checkpoints}
	switch {
	case w.Sub == "" || len(w.Sub) > maxSubBytes:
		return nil, badMessage("sub must be text of 1 to %d bytes", maxSubBytes)
	case w.Credit < 0 || w.Credit > maxCredit:
		return nil, badMessage("credit must be 0 to %d", maxCredit)
	}
	var err error
	if w.Keys != nil {
		m.Filter, err = newFilter(w.Prefix, *w.Keys, true)
	} else {
		m.Filter, err = newFilter(w.Prefix, nil, false)
	}
	if err != nil {
		return nil, err
	}
	m.Since, m.Vector, err = parsePlace(w.Since, w.Vector)
	return m, err
}

// parsePlace reads where a client wants to go on.
func parsePlace(since, vector string) (replica.Cursor, *crdt.VersionVector, error) {
	c, err := replica.ParseCursor(since)
	if err != nil {
		return c, nil, badMessage("since: %s", shorten(err.Error()))
	}
	if c.Arrival == 0 {
		c = replica.Cursor{} // of an empty space: the beginning, whichever feed's
	}
	if vector == "" {
		return c, nil, nil
	}
	vv, err := parseVector(vector)
	if err != nil {
		return c, nil, badMessage("vector: %s", shorten(err.Error()))
	}
	return c, &vv, nil
}

// parsePush reads what a client wants written. A transaction whose number can be read, but not what it is to do, is one to be rejected; without
// its number the whole message is refused.
func parsePush(text []byte) (*pushMessage, error) {
	var w struct {
		Space        string           `json:"space"`
		Node         string           `json:"node"`
		Client       string           `json:"client"`
		Floor        uint64           `json:"floor"`
		Replicate    *int             `json:"replicate"`
		Transactions []jsontext.Value `json:"transactions"`
	}
	if err := unmarshal(text, &w); err != nil {
		// If it is one of the transactions that is wrong, as one with half a surrogate pair in a text, it is rejected, and the others
		// are not held up: a client would send the message again and again.
		w.Transactions = nil
		if unmarshalLoosely(text, &w) != nil || !slices.ContainsFunc(w.Transactions, func(t jsontext.Value) bool { return !t.IsValid() }) {
			return nil, err
		}
	}
	m := &pushMessage{Space: w.Space, Node: w.Node, Floor: w.Floor, Replicate: 1}
	if w.Replicate != nil {
		m.Replicate = *w.Replicate
	}
	client, err := parseClientID(w.Client)
	m.Client = client
	switch {
	case err != nil:
		return nil, badMessage("client: %s", err)
	case w.Floor > maxExact:
		return nil, badMessage("floor must be at most 2^53-1")
	case m.Replicate < 0 || m.Replicate > maxReplicate:
		return nil, badMessage("replicate must be 0 to %d", maxReplicate)
	case len(w.Transactions) > maxTransactions:
		return nil, badMessage("%d transactions in one message, more than %d", len(w.Transactions), maxTransactions)
	}
	last := uint64(0)
	for _, text := range w.Transactions {
		t, err := parseTransaction(text)
		if err != nil {
			return nil, err
		}
		if t.Seq <= last {
			return nil, badMessage("transaction %d comes after %d: they must be in the order of their numbers", t.Seq, last)
		}
		last = t.Seq
		t.Client, t.Floor = m.Client, m.Floor
		m.Transactions = append(m.Transactions, t)
	}
	return m, nil
}

// parseTransaction reads one transaction. The error is one of the whole message.
func parseTransaction(text []byte) (pushedTransaction, error) {
	var head struct {
		Seq jsontext.Value `json:"seq"`
	}
	if err := unmarshalLoosely(text, &head); err != nil {
		return pushedTransaction{}, err
	}
	var t pushedTransaction
	if err := json.Unmarshal(head.Seq, &t.Seq); head.Seq == nil || err != nil || t.Seq == 0 || t.Seq > maxExact {
		return t, badMessage("the number seq of a transaction must be an integer, 1 to 2^53-1")
	}
	err := t.parse(text)
	if err != nil {
		p := problemOf(err)
		code := replica.RejectBadRequest
		if p.Code == CodeTooLarge {
			code = replica.RejectTooLarge
		}
		t.ClientTransaction = replica.ClientTransaction{Seq: t.Seq}
		t.rejected = &replica.ClientRejection{Code: code, Detail: p.Detail}
	}
	return t, nil
}

func (t *pushedTransaction) parse(text []byte) error {
	var w struct {
		At    int64            `json:"at"`
		Force bool             `json:"force"`
		Ops   []jsontext.Value `json:"ops"`
	}
	switch err := unmarshal(text, &w); {
	case err != nil:
		return err
	case len(text) > crdt.MaxTransactionBytes:
		return &crdt.LimitError{What: "transaction", Size: len(text), Limit: crdt.MaxTransactionBytes, Unit: "bytes"}
	case w.At < 1 || w.At > maxExact:
		return badMessage("at must be a time in milliseconds since 1970")
	}
	t.At, t.Force = time.UnixMilli(w.At), w.Force
	fields := 0
	for i, text := range w.Ops {
		op, err := parseOp(text)
		if err != nil {
			return fmt.Errorf("ops/%d: %w", i, err)
		}
		if fields += 1 + len(op.Leaves) + len(op.Seen); fields > 2*crdt.MaxTransactionFields {
			return &crdt.LimitError{What: "transaction", Size: fields, Limit: 2 * crdt.MaxTransactionFields, Unit: "fields written and seen"}
		}
		t.Ops = append(t.Ops, op)
	}
	return nil
}

// wireOp is a change as a client writes it.
type wireOp struct {
	Op    string              `json:"op"`
	Key   string              `json:"key"`
	Path  string              `json:"path"`
	Value jsontext.Value      `json:"value"`
	By    jsontext.Value      `json:"by"`
	Seen  map[string][]string `json:"seen"`
}

func parseOp(text []byte) (replica.ClientOp, error) {
	var w wireOp
	if err := unmarshal(text, &w); err != nil {
		return replica.ClientOp{}, err
	}
	op := replica.ClientOp{Key: w.Key}
	err := crdt.CheckKey(w.Key)
	if err != nil {
		return op, err
	}
	if w.Op == "delete" {
		w.Path = ""
	}
	if op.Path, err = parsePointer(w.Path); err != nil {
		return op, err
	}
	switch w.Op {
	case "set":
		op.Kind = replica.ClientSet
		op.Leaves, err = parseSet(op.Path, w.Value)
	case "remove", "delete":
		op.Kind = replica.ClientRemove
	case "increment":
		op.Kind = replica.ClientIncrement
		if op.Path == "" {
			return op, badMessage("a document is no counter: path must not be empty")
		}
		op.By, err = parseBy(w.By)
		return op, err
	default:
		return op, badMessage("unknown op %.40q", w.Op)
	}
	if err == nil {
		op.Seen, err = w.seen(op.Path, op.Kind == replica.ClientSet)
	}
	return op, err
}

func parseSet(at crdt.PathKey, value jsontext.Value) ([]crdt.Leaf, error) {
	if value == nil {
		return nil, badMessage("set needs a value")
	}
	leaves, err := parseValue(at, value)
	if errors.Is(err, errInt) {
		return nil, badMessage("%s", err)
	}
	if err == nil && len(leaves) == 1 && leaves[0].Path == "" && leaves[0].Value.Kind() != crdt.EmptyMap {
		err = badMessage("a document must be an object")
	}
	return leaves, err
}

func parseBy(text jsontext.Value) (int64, error) {
	leaves, err := parseValue("", text)
	if err != nil || len(leaves) != 1 || leaves[0].Value.Kind() != crdt.Int {
		return 0, badMessage("increment needs by, an integer")
	}
	return leaves[0].Value.Int(), nil
}

// seen returns what the client had read, in the order of paths and dots. A cell that the change leaves alone is refused: the client means
// something else than it says.
func (w *wireOp) seen(at crdt.PathKey, above bool) ([]replica.SeenDot, error) {
	var all []replica.SeenDot
	for text, pointers := range w.Seen {
		d, err := parseDot(text)
		if err != nil {
			return nil, badMessage("seen: %s", err)
		}
		for _, pointer := range pointers {
			p, err := parsePointer(pointer)
			if err != nil {
				return nil, err
			}
			if !at.Contains(p) && !(above && p.Contains(at)) {
				return nil, badMessage("seen: the %s at %.80q does not touch %.80q", w.Op, w.Path, pointer)
			}
			all = append(all, replica.SeenDot{Path: p, Dot: d})
		}
	}
	slices.SortFunc(all, func(a, b replica.SeenDot) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), a.Dot.Compare(b.Dot))
	})
	return all, nil
}
