package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// write runs the writers. Each takes the next document, writes it, and waits until it is durable here.
func (c *child) write(ctx context.Context, a writeArgs) (writeResult, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		next   atomic.Int64
		mu     sync.Mutex
		result writeResult
		failed error
		all    sync.WaitGroup
	)
	if a.Stamps {
		result.Stamps = make([]int64, a.Count)
	}
	result.Began = time.Now().UnixNano()
	for range max(1, a.Writers) {
		all.Go(func() {
			last, err := c.writer(ctx, a, &next, result.Stamps)
			mu.Lock()
			defer mu.Unlock()
			result.Last = result.Last.later(last)
			if err != nil && failed == nil {
				failed = err
				cancel()
			}
		})
	}
	all.Wait()
	result.Ended = time.Now().UnixNano()
	return result, failed
}

func (c *child) writer(ctx context.Context, a writeArgs, next *atomic.Int64, stamps []int64) (mark, error) {
	var last mark
	began := time.Now()
	for {
		i := int(next.Add(1)) - 1
		if i >= a.Count {
			return last, nil
		}
		if a.Every > 0 {
			if err := waitUntil(ctx, began.Add(time.Duration(i)*time.Duration(a.Every))); err != nil {
				return last, err
			}
		}
		d := c.gen.document(a.First+i, a.Revision)
		if stamps != nil {
			stamps[i] = time.Now().UnixNano()
		}
		m, err := c.writeOne(ctx, a, d)
		if err != nil {
			return last, fmt.Errorf("document %d: %w", a.First+i, err)
		}
		last = last.later(m)
	}
}

func waitUntil(ctx context.Context, when time.Time) error {
	timer := time.NewTimer(time.Until(when))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *child) writeOne(ctx context.Context, a writeArgs, d document) (mark, error) {
	switch a.What {
	case putDocument:
		return c.subject.put(ctx, d)
	case setField:
		return c.subject.set(ctx, d.Key, d.field(a.Field))
	case deleteDocument:
		return c.subject.remove(ctx, d.Key)
	}
	return mark{}, fmt.Errorf("unknown kind of write %q", a.What)
}

// field returns the field of the given name.
func (d document) field(name string) field {
	for _, f := range d.Fields {
		if f.Name == name {
			return f
		}
	}
	return field{}
}
