package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
	"github.com/anabranch-db/anabranch/crdt"
)

// Client is a node.Node that another process serves.
type Client struct {
	dir   string
	http  http.Client
	first chan net.Conn // the one that Dial made, until a request takes it
}

// Dial returns a Client of the node that serves the store in dir, or ErrNoNode.
func Dial(ctx context.Context, dir string) (*Client, error) {
	first, err := dial(ctx, dir)
	if err != nil {
		return nil, err
	}
	c := &Client{dir: dir, first: make(chan net.Conn, 1)}
	c.first <- first
	c.http.Transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			select {
			case conn := <-c.first:
				return conn, nil
			default:
				return dial(ctx, dir)
			}
		},
		MaxIdleConns: 2, DisableCompression: true,
	}
	return c, nil
}

// Close closes idle connections; the node goes on.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	select {
	case conn := <-c.first:
		return conn.Close()
	default:
		return nil
	}
}

// request sends a request and returns the body of the answer if it is a good one.
func (c *Client) request(ctx context.Context, method, path string, q url.Values, body any) (io.ReadCloser, error) {
	resp, err := c.open(ctx, method, path, q, body)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// open is request for who needs the whole answer.
func (c *Client) open(ctx context.Context, method, path string, q url.Values, body any) (*http.Response, error) {
	var sent io.Reader
	if body != nil {
		var b bytes.Buffer
		if err := encode(&b, body); err != nil {
			return nil, err
		}
		sent = &b
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://node"+path+"?"+q.Encode(), sent)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.failed(ctx, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var a errorAnswer
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxRequestBytes)).Decode(&a); err != nil || a.Error == nil {
		return nil, fmt.Errorf("the node that serves %s answers %s to %s: it is of another version, restart it", c.dir, resp.Status, path)
	}
	return nil, a.Error
}

// failed describes an error of the connection: why it ended matters more than that it did.
func (c *Client) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, ErrNoNode) {
		err = ErrNoNode
	}
	return fmt.Errorf("the node that serves %s stopped answering: %w", c.dir, err)
}

func (c *Client) call(ctx context.Context, method, path string, q url.Values, body, result any) error {
	r, err := c.request(ctx, method, path, q, body)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := json.NewDecoder(r).Decode(result); err != nil {
		return c.failed(ctx, err)
	}
	return nil
}

// lines yields the items of a stream. keys, if not nil, gets the progress.
func lines[T any](ctx context.Context, c *Client, method, path string, q url.Values, keys func(int64)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		r, err := c.request(ctx, method, path, q, nil)
		if err != nil {
			yield(none, err)
			return
		}
		defer r.Close()
		for d := json.NewDecoder(r); ; {
			var l line[T]
			err := d.Decode(&l)
			switch {
			case err != nil:
				yield(none, c.failed(ctx, err))
				return
			case l.Error != nil && ctx.Err() != nil:
				yield(none, context.Cause(ctx))
				return
			case l.Error != nil:
				yield(none, l.Error)
				return
			case l.End:
				return
			case l.Item == nil:
				if keys != nil {
					keys(l.Keys)
				}
			case !yield(*l.Item, nil):
				return
			}
		}
	}
}

// Commit checks the operations here, where JSON has not changed them yet, and sends them.
func (c *Client) Commit(ctx context.Context, space string, ops []node.Op) (node.Receipt, error) {
	for i := range ops {
		if err := ops[i].Parse(); err != nil {
			return node.Receipt{}, fmt.Errorf("%s %.80q: %w", ops[i].Op, ops[i].Key, err)
		}
	}
	var rc node.Receipt
	err := c.call(ctx, http.MethodPost, "/v1/transactions", url.Values{"space": {space}}, transactionRequest{ops}, &rc)
	return rc, err
}

// Wait waits at the node.
func (c *Client) Wait(ctx context.Context, space string, rc node.Receipt, n int, timeout time.Duration) (int, error) {
	q := url.Values{"space": {space}, "timeout": {timeout.String()}}
	var a waitAnswer
	if err := c.call(ctx, http.MethodPost, "/v1/wait", q, waitRequest{rc, n}, &a); err != nil {
		return 0, err
	}
	if a.Error != nil {
		return a.Peers, a.Error
	}
	return a.Peers, nil
}

// Get returns one document.
func (c *Client) Get(ctx context.Context, space, key string) (node.Document, error) {
	var doc node.Document
	if err := crdt.CheckKey(key); err != nil {
		return doc, err
	}
	err := c.call(ctx, http.MethodGet, "/v1/document", url.Values{"space": {space}, "key": {key}}, nil, &doc)
	return doc, err
}

// Scan yields documents.
func (c *Client) Scan(ctx context.Context, space string, o node.ScanOptions) iter.Seq2[node.Document, error] {
	q := url.Values{
		"space": {space}, "prefix": {o.Prefix}, "after": {o.After}, "limit": {strconv.Itoa(o.Limit)}, "keys": {strconv.FormatBool(o.KeysOnly)},
	}
	return lines[node.Document](ctx, c, http.MethodGet, "/v1/documents", q, nil)
}

// Watch yields changes.
func (c *Client) Watch(ctx context.Context, space string, o node.WatchOptions) iter.Seq2[node.Event, error] {
	q := url.Values{"space": {space}, "since": {o.Since}, "prefix": {o.Prefix}}
	return lines[node.Event](ctx, c, http.MethodGet, "/v1/changes", q, nil)
}

// Status describes the node.
func (c *Client) Status(ctx context.Context) (node.Status, error) {
	var st node.Status
	err := c.call(ctx, http.MethodGet, "/v1/status", nil, nil, &st)
	return st, err
}

// Verify checks one space.
func (c *Client) Verify(ctx context.Context, space string, repair bool, progress func(keys int64)) (node.Report, error) {
	q := url.Values{"space": {space}, "repair": {strconv.FormatBool(repair)}}
	var report node.Report
	for r, err := range lines[node.Report](ctx, c, http.MethodPost, "/v1/verify", q, progress) {
		if err != nil {
			return report, err
		}
		report = r
	}
	return report, nil
}
