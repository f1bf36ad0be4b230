package bench

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// A document of the benchmark has five fields and takes 110 to 120 bytes as JSON.
const (
	minJSONBytes = 110
	maxJSONBytes = 120
)

// field is one field of a document: a string or a number.
type field struct {
	Name   string
	Text   string
	Number int64
	IsText bool
}

// value returns the field's value as a Go value.
func (f field) value() any {
	if f.IsText {
		return f.Text
	}
	return f.Number
}

// document is what one number of the generated sequence stands for.
type document struct {
	Key    string
	Fields []field // sorted by name
}

// generator makes the same documents from the same seed, in any order and in any process.
type generator struct{ seed uint64 }

// key returns the key of document n. Neighbours in the sequence have keys far apart, as documents have that many
// authors write: the order of the log is not that of the keys.
func (g generator) key(n int) string {
	return fmt.Sprintf("item/%08x", uint32(n)*2654435761) // odd, so no two n below 2³² share a key
}

// document returns document n in its given revision; revisions differ in the values of all fields.
func (g generator) document(n, revision int) document {
	r := rand.New(rand.NewPCG(g.seed, uint64(n)<<16|uint64(revision)))
	first, last := firstNames[r.IntN(len(firstNames))], lastNames[r.IntN(len(lastNames))]
	city := cities[r.IntN(len(cities))]
	d := document{Key: g.key(n), Fields: []field{
		{Name: "age", Number: int64(18 + r.IntN(70))},
		{Name: "city", Text: city, IsText: true},
		{Name: "name", Text: first + " " + last, IsText: true},
		{Name: "note", IsText: true},
		{Name: "score", Number: int64(r.IntN(100_000))},
	}}
	missing := minJSONBytes + r.IntN(maxJSONBytes-minJSONBytes+1) - d.jsonSize()
	d.Fields[3].Text = note(r, missing)
	return d
}

// note returns words of exactly size bytes.
func note(r *rand.Rand, size int) string {
	var b strings.Builder
	for b.Len() < size {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(words[r.IntN(len(words))])
	}
	return b.String()[:size]
}

// jsonSize returns the length of the document as JSON; its texts hold nothing that JSON escapes.
func (d document) jsonSize() int {
	n := 1 // one brace; the other one is paid for by the last field, which has no comma
	for _, f := range d.Fields {
		n += len(f.Name) + 2 + 1 + 1
		if f.IsText {
			n += len(f.Text) + 2
		} else {
			n += len(fmt.Sprint(f.Number))
		}
	}
	return n
}

// goValue returns the document as a Go value, as an application would hand it over.
func (d document) goValue() map[string]any {
	m := make(map[string]any, len(d.Fields))
	for _, f := range d.Fields {
		m[f.Name] = f.value()
	}
	return m
}

var (
	firstNames = []string{"Ada", "Bruno", "Chidi", "Dana", "Emre", "Freya", "Goran", "Hana", "Ivo", "Jonas", "Kira", "Leila", "Milan", "Nadia", "Oskar", "Priya"}
	lastNames  = []string{"Abebe", "Berg", "Costa", "Duarte", "Eriksen", "Farkas", "Gomez", "Haddad", "Ito", "Jansen", "Kovac", "Larsen", "Moreno", "Novak", "Okoye", "Petrov"}
	cities     = []string{"Accra", "Bergen", "Cusco", "Dakar", "Espoo", "Fukuoka", "Ghent", "Hanoi", "Izmir", "Jaffna", "Kyiv", "Lima", "Malmo", "Nantes", "Oslo", "Porto"}
	words      = []string{"amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "harbour", "inlet", "jetty", "kelp", "lagoon", "marsh", "narrow", "oxbow", "pebble", "quay", "reed", "shoal", "tide", "upland", "vale", "weir", "yarrow"}
)
