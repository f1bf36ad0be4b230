package control

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
)

// errorTrailer tells, behind a body that is not JSON, why it ended too early.
const errorTrailer = "Anabranch-Error"

func (s *Server) backup(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Trailer", errorTrailer)
	_, err := s.node.Backup(r.Context(), w, node.BackupOptions{Secrets: r.URL.Query().Get("secrets") == "true"})
	if err == nil {
		return
	}
	text, merr := json.Marshal(remote(err))
	if merr != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set(errorTrailer, url.QueryEscape(string(text)))
}

// Backup writes a backup.
func (c *Client) Backup(ctx context.Context, w io.Writer, o node.BackupOptions) (node.Backup, error) {
	resp, err := c.open(ctx, http.MethodGet, "/v1/backup", url.Values{"secrets": {strconv.FormatBool(o.Secrets)}}, nil)
	if err != nil {
		return node.Backup{}, err
	}
	defer resp.Body.Close()
	out, err := node.CheckBackup(ctx, resp.Body, w, o.Progress)
	if err == nil {
		return out, nil
	}
	if ctx.Err() != nil {
		return out, context.Cause(ctx)
	}
	if _, rerr := io.Copy(io.Discard, resp.Body); rerr != nil { // the trailer comes behind the body
		return out, c.failed(ctx, rerr)
	}
	text, uerr := url.QueryUnescape(resp.Trailer.Get(errorTrailer))
	var told node.RemoteError
	if uerr == nil && json.Unmarshal([]byte(text), &told) == nil && told.Message != "" {
		return out, &told
	}
	return out, fmt.Errorf("what the node that serves %s sent: %w", c.dir, err)
}
