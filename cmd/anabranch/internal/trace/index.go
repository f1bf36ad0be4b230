package trace

import (
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
)

// Index is what is known of a trace without the ops: who was where, having seen what. It stays in memory, the ops do not.
type Index struct {
	File     string
	Lines    []Entry
	Replicas []string // sorted bytewise

	Puts, Removes, Deletes int
}

// Entry is one line of an Index.
type Entry struct {
	Number  int // in the file
	Commit  string
	Parents []int // in Index.Lines
	Replica int   // in Index.Replicas
	Time    int64
}

// ReadIndex reads a whole trace and checks each line: that it parses, that its commit is new and its parents are
// known, and that its time is above theirs.
func ReadIndex(path string) (*Index, error) {
	r, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return readIndex(filepath.Base(path), r)
}

func readIndex(name string, r *Reader) (*Index, error) {
	x := &Index{File: name}
	commits := make(map[string]int)
	replicas := make(map[string]int)
	var names []string // by first appearance; sorted at the end
	for {
		l, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		e, err := x.entry(l, commits)
		if err != nil {
			return nil, &Error{name, l.Number, err}
		}
		id, ok := replicas[l.Replica]
		if !ok {
			id = len(names)
			replicas[l.Replica] = id
			names = append(names, l.Replica)
		}
		e.Replica = id
		commits[l.Commit] = len(x.Lines)
		x.Lines = append(x.Lines, e)
		x.count(l)
	}
	x.Replicas = slices.Sorted(maps.Keys(replicas))
	for i := range x.Lines {
		x.Lines[i].Replica, _ = slices.BinarySearch(x.Replicas, names[x.Lines[i].Replica])
	}
	return x, nil
}

func (x *Index) entry(l *Line, commits map[string]int) (Entry, error) {
	e := Entry{Number: l.Number, Commit: l.Commit, Time: l.Time}
	if at, ok := commits[l.Commit]; ok {
		return e, fmt.Errorf("commit %q is that of line %d already", l.Commit, x.Lines[at].Number)
	}
	for i, p := range l.Parents {
		at, ok := commits[p]
		switch {
		case !ok:
			return e, inMember("parents", inElement(i, fmt.Errorf("%q is not the commit of an earlier line", p)))
		case slices.Contains(e.Parents, at):
			return e, inMember("parents", inElement(i, fmt.Errorf("%q comes twice", p)))
		case x.Lines[at].Time >= l.Time:
			return e, inMember("time", fmt.Errorf("%d is not above that of its parent %q, %d", l.Time, p, x.Lines[at].Time))
		}
		e.Parents = append(e.Parents, at)
	}
	return e, nil
}

func (x *Index) count(l *Line) {
	for i := range l.Ops {
		switch l.Ops[i].Kind {
		case Put:
			x.Puts++
		case Remove:
			x.Removes++
		case Delete:
			x.Deletes++
		}
	}
}
