package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// subject is a node under measurement: ours or the ideal.
type subject interface {
	// put, set and remove are one durable transaction each.
	put(ctx context.Context, d document) (mark, error)
	set(ctx context.Context, key string, f field) (mark, error)
	remove(ctx context.Context, key string) (mark, error)
	// dial returns at once; the connection is made meanwhile.
	dial(addr, peer string) error
	// acked returns when so many peers have said that they hold m durably.
	acked(ctx context.Context, m mark, peers int) error
	// watch calls seen with the key of each document that changes from now on, until seen returns false.
	watch(ctx context.Context, ready chan<- struct{}, seen func(key string) bool) error
	traffic() (sent, received uint64)
	documents(ctx context.Context) (int64, error)
	inspect(ctx context.Context, key string, want field) (shown, conflicted bool, err error)
	probe(ctx context.Context, g generator, a probeArgs) (time.Duration, error)
	addr() (addr, peer string)
	close() error
}

// child is a node process.
type child struct {
	gen     generator
	subject subject
	limits  limits
	watched chan watchedResult
	failed  chan error
	profile profile
	own     ownPeak
}

// ServeNode is the whole of a node process: it reads requests and answers them until in ends, which it also does when the
// driver dies. Nothing of it outlives the call but files.
func ServeNode(ctx context.Context, in io.Reader, out io.Writer) error {
	c := &child{}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go c.own.sample(ctx)
	lines := bufio.NewReader(in)
	encoder := json.NewEncoder(out)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return c.shut()
		}
		if err != nil {
			return errors.Join(err, c.shut())
		}
		if err := encoder.Encode(c.answer(ctx, line)); err != nil {
			return errors.Join(err, c.shut())
		}
	}
}

func (c *child) shut() error {
	err := c.limits.close()
	if c.subject != nil {
		err = errors.Join(err, c.subject.close())
		c.subject = nil
	}
	return err
}

func (c *child) answer(ctx context.Context, line []byte) reply {
	var r request
	if err := json.Unmarshal(line, &r); err != nil {
		return reply{Error: fmt.Sprintf("request: %v", err)}
	}
	result, err := c.do(ctx, r)
	if err != nil {
		return reply{Error: fmt.Sprintf("%s: %v", r.Op, err)}
	}
	text, err := json.Marshal(result)
	if err != nil {
		return reply{Error: fmt.Sprintf("%s: %v", r.Op, err)}
	}
	return reply{Result: text}
}

func (c *child) do(ctx context.Context, r request) (any, error) {
	switch r.Op {
	case "open":
		return handle(r, c.open)
	case "limit-store":
		return handle(r, c.limits.store)
	case "limit-listen":
		return handle(r, c.limits.listen)
	case "limit-fetch":
		return handle(r, func(a limitArgs) (limitResult, error) { return c.limits.fetch(ctx, a) })
	}
	if c.subject == nil {
		return nil, errors.New("no store is open")
	}
	switch r.Op {
	case "write":
		return handle(r, func(a writeArgs) (writeResult, error) { return c.write(ctx, a) })
	case "dial":
		return handle(r, func(a dialArgs) (at, error) {
			now := time.Now().UnixNano()
			return at{now}, c.subject.dial(a.Addr, a.Peer)
		})
	case "acked":
		return handle(r, func(a ackedArgs) (at, error) {
			err := c.subject.acked(ctx, a.Mark, max(1, a.Peers))
			return at{time.Now().UnixNano()}, err
		})
	case "watch":
		return handle(r, func(a watchArgs) (struct{}, error) { return struct{}{}, c.watch(ctx, a) })
	case "watched":
		return c.waitWatched(ctx)
	case "usage":
		return c.usage()
	case "documents":
		n, err := c.subject.documents(ctx)
		return count{n}, err
	case "forgotten", "compacted":
		return c.forget(ctx, r.Op)
	case "profile":
		return handle(r, c.profile.begin)
	case "profile-end":
		return struct{}{}, c.profile.end()
	case "inspect":
		return handle(r, func(a inspectArgs) (inspectResult, error) { return c.inspect(ctx, a) })
	case "probe":
		return handle(r, func(a probeArgs) (probeResult, error) {
			d, err := c.subject.probe(ctx, c.gen, a)
			return probeResult{d.Nanoseconds()}, err
		})
	case "close":
		return struct{}{}, c.shut()
	}
	return nil, errors.New("unknown request")
}

// handle parses the arguments that f takes.
func handle[A, R any](r request, f func(A) (R, error)) (any, error) {
	var args A
	if len(r.Args) > 0 {
		if err := json.Unmarshal(r.Args, &args); err != nil {
			return nil, err
		}
	}
	return f(args)
}

func (c *child) open(a openArgs) (openResult, error) {
	if c.subject != nil {
		return openResult{}, errors.New("a store is open already")
	}
	c.gen = generator{a.Seed}
	began := time.Now()
	var err error
	switch a.Engine {
	case engineOurs:
		c.subject, err = openOurs(a)
	case engineIdeal:
		c.subject, err = openIdeal(a)
	default:
		err = fmt.Errorf("unknown engine %q", a.Engine)
	}
	if err != nil {
		c.subject = nil
		return openResult{}, err
	}
	addr, peer := c.subject.addr()
	return openResult{Addr: addr, Peer: peer, Nanos: time.Since(began).Nanoseconds()}, nil
}

func (c *child) usage() (usage, error) {
	u, err := processUsage()
	if err != nil {
		return u, err
	}
	u.OwnPeakBytes = c.own.bytes.Load()
	u.Sent, u.Received = c.subject.traffic()
	return u, nil
}

// watch begins to collect when documents are seen. It returns once the watcher will miss nothing.
func (c *child) watch(ctx context.Context, a watchArgs) error {
	numbers := make(map[string]int, a.Count)
	for i := range a.Count {
		numbers[c.gen.key(a.First+i)] = i
	}
	c.watched, c.failed = make(chan watchedResult, 1), make(chan error, 1)
	watched, failed, ready := c.watched, c.failed, make(chan struct{})
	go func() {
		stamps := make([]int64, a.Count)
		left := a.Count
		err := c.subject.watch(ctx, ready, func(key string) bool {
			if i, ok := numbers[key]; ok && stamps[i] == 0 {
				stamps[i] = time.Now().UnixNano()
				left--
			}
			return left > 0
		})
		if left > 0 {
			failed <- fmt.Errorf("the watch ended with %d documents missing: %w", left, err)
			return
		}
		watched <- watchedResult{stamps}
	}()
	select {
	case <-ready:
		return nil
	case err := <-failed:
		return err
	}
}

func (c *child) waitWatched(ctx context.Context) (watchedResult, error) {
	if c.watched == nil {
		return watchedResult{}, errors.New("nothing is watched")
	}
	select {
	case r := <-c.watched:
		return r, nil
	case err := <-c.failed:
		return watchedResult{}, err
	case <-ctx.Done():
		return watchedResult{}, ctx.Err()
	}
}

func (c *child) inspect(ctx context.Context, a inspectArgs) (inspectResult, error) {
	var r inspectResult
	for n := a.First; n < a.First+a.Count; n++ {
		for _, side := range []struct {
			revision int
			field    string
		}{{revisionA, a.FieldA}, {revisionB, a.FieldB}} {
			d := c.gen.document(n, side.revision)
			shown, conflicted, err := c.subject.inspect(ctx, d.Key, d.field(side.field))
			if err != nil {
				return r, err
			}
			switch {
			case shown:
				r.Shown++
			case conflicted:
				r.Conflicted++
			default:
				r.Lost++
			}
		}
	}
	return r, nil
}
