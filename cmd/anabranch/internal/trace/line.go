package trace

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// Line is one commit of one replica.
type Line struct {
	Number  int // in the file, from 1
	Commit  string
	Parents []string
	Replica string
	Time    int64 // Unix milliseconds
	State   string
	Ops     []Op
}

// Op is one change. It has been checked against the limits of documents.
type Op struct {
	Kind  Kind
	Key   string
	Path  crdt.Path // of Put and Remove
	At    crdt.PathKey
	Value crdt.Value // of Put
}

// Kind is what an Op does.
type Kind uint8

// The kinds of Op: put, del and delete in the file.
const (
	Put Kind = iota + 1
	Remove
	Delete
)

var kindNames = map[string]Kind{"put": Put, "del": Remove, "delete": Delete}

// Bounds of names, which stay in memory for all lines.
const (
	maxCommitBytes  = 64
	maxReplicaBytes = 128
	maxParents      = 1024
)

var errNotUTF8 = errors.New("it is not UTF-8")

func parseLine(text []byte) (*Line, error) {
	if !utf8.Valid(text) {
		return nil, errNotUTF8
	}
	l := new(Line)
	fields := map[string]func(json.RawMessage) error{
		"commit":  nameInto(&l.Commit, maxCommitBytes),
		"replica": nameInto(&l.Replica, maxReplicaBytes),
		"state":   l.parseState,
		"time":    l.parseTime,
		"parents": l.parseParents,
		"ops":     l.parseOps,
	}
	if err := parseObject(text, fields, "commit", "parents", "replica", "time", "state", "ops"); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Line) parseState(raw json.RawMessage) error {
	if err := nameInto(&l.State, hashBytes)(raw); err != nil {
		return err
	}
	if !isHash(l.State) {
		return fmt.Errorf("%q is not a hash: want %d lower-case hex digits", l.State, hashBytes)
	}
	return nil
}

func (l *Line) parseTime(raw json.RawMessage) error {
	v, err := crdt.ParseJSONElement(raw)
	if err != nil {
		return err
	}
	if v.Kind() != crdt.Int || v.Int() <= 0 || hlc.FromUnixMilli(v.Int()).UnixMilli() != v.Int() {
		return fmt.Errorf("%s is not a time: want milliseconds since 1970, above 0 and within 48 bits", clip(raw))
	}
	l.Time = v.Int()
	return nil
}

func (l *Line) parseParents(raw json.RawMessage) error {
	var list []json.RawMessage
	if err := parseArray(raw, &list); err != nil {
		return err
	}
	if len(list) > maxParents {
		return &crdt.LimitError{What: "list", Size: len(list), Limit: maxParents, Unit: "parents"}
	}
	l.Parents = make([]string, len(list))
	for i := range list {
		if err := nameInto(&l.Parents[i], maxCommitBytes)(list[i]); err != nil {
			return inElement(i, err)
		}
	}
	return nil
}

func (l *Line) parseOps(raw json.RawMessage) error {
	var list []json.RawMessage
	if err := parseArray(raw, &list); err != nil {
		return err
	}
	l.Ops = make([]Op, len(list))
	for i := range list {
		if err := l.Ops[i].parse(list[i]); err != nil {
			return inElement(i, err)
		}
	}
	return nil
}

func (o *Op) parse(raw json.RawMessage) error {
	given := make(map[string]bool, 4)
	note := func(name string, parse func(json.RawMessage) error) func(json.RawMessage) error {
		return func(raw json.RawMessage) error { given[name] = true; return parse(raw) }
	}
	var kind string
	fields := map[string]func(json.RawMessage) error{
		"op":    nameInto(&kind, 16),
		"key":   o.parseKey,
		"path":  note("path", o.parsePath),
		"value": note("value", o.parseValue),
	}
	if err := parseObject(raw, fields, "op", "key"); err != nil {
		return err
	}
	var ok bool
	if o.Kind, ok = kindNames[kind]; !ok {
		return fmt.Errorf("op: %q is none: want put, del or delete", kind)
	}
	for name, wanted := range map[string]bool{"path": o.Kind != Delete, "value": o.Kind == Put} {
		switch {
		case wanted && !given[name]:
			return fmt.Errorf("%s is missing: %s needs it", name, kind)
		case !wanted && given[name]:
			return fmt.Errorf("%s: %s takes none", name, kind)
		}
	}
	return nil
}

func (o *Op) parseKey(raw json.RawMessage) (err error) {
	if o.Key, err = parseText(raw); err != nil {
		return err
	}
	return crdt.CheckKey(o.Key)
}

func (o *Op) parsePath(raw json.RawMessage) error {
	var list []json.RawMessage
	err := parseArray(raw, &list)
	if err != nil {
		return err
	}
	if len(list) > crdt.MaxDepth {
		return &crdt.LimitError{What: "path", Size: len(list), Limit: crdt.MaxDepth, Unit: "levels"}
	}
	o.Path = make(crdt.Path, len(list))
	for i := range list {
		if o.Path[i], err = parseText(list[i]); err != nil {
			return inElement(i, err)
		}
	}
	o.At, err = o.Path.Pack()
	return err
}

func (o *Op) parseValue(raw json.RawMessage) (err error) {
	o.Value, err = parseLeaf(raw)
	return err
}
