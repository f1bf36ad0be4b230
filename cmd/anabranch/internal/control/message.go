package control

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
)

// maxRequestBytes bounds the body of a request. A transaction of crdt.MaxTransactionBytes takes at most six times as much as JSON, by
// escapes; the importer sends far less.
const maxRequestBytes = 32 << 20

type transactionRequest struct {
	Ops []node.Op `json:"ops"`
}

type waitRequest struct {
	Receipt node.Receipt `json:"receipt"`
	Peers   int          `json:"peers"`
}

type waitAnswer struct {
	Peers int               `json:"peers"`
	Error *node.RemoteError `json:"error,omitempty"` // waiting ended without success
}

type errorAnswer struct {
	Error *node.RemoteError `json:"error"`
}

// line is one line of a stream; one member is set.
type line[T any] struct {
	Item  *T                `json:"item,omitempty"`
	Keys  int64             `json:"keys,omitempty"`
	Error *node.RemoteError `json:"error,omitempty"`
	End   bool              `json:"end,omitempty"`
}

func remote(err error) *node.RemoteError {
	return &node.RemoteError{Code: node.Code(err), Message: err.Error()}
}

// encode writes v as one line. Unlike json.Marshal it leaves the bytes of documents as they are.
func encode(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// decodeRequest reads one object, all of it and nothing else.
func decodeRequest(r io.Reader, v any) error {
	body, err := io.ReadAll(io.LimitReader(r, maxRequestBytes+1))
	if err != nil {
		return fmt.Errorf("%w: %w", node.ErrRequest, err)
	}
	if len(body) > maxRequestBytes {
		return fmt.Errorf("%w: a body of more than %d MiB", node.ErrRequest, maxRequestBytes>>20)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", node.ErrRequest, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("%w: something follows the object", node.ErrRequest)
	}
	return nil
}
