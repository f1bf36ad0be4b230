package demo

import (
	"context"
	"fmt"

	"golang.org/x/text/language"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

var english = language.English

// The records that several nodes edit while they are apart.
const (
	shared          = "NO" // different fields of one record
	disputed        = "TR" // the same field
	disputedSettled = "Türkiye"
	deleted         = "AQ" // deleted by one, edited by the others
	counterKey      = "statistics"
)

// What each node sets in the shared record.
var sharedFields = []struct{ field, value string }{{"capital", "Oslo"}, {"currency", "NOK"}, {"calling", "+47"}}

// What each node calls the disputed region in English; empty: it leaves the name as it is.
var disputedNames = []string{"Türkiye", "", "Republic of Türkiye"}

// edit makes the edits of the i-th node, and notes them.
func (d *demo) edit(ctx context.Context, i int, n *node) error {
	edits := 0
	do := func(key, what string, fields int, fn func(tx *replica.Tx) error) error {
		if _, err := n.space.Update(ctx, fn); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		edits += fields
		d.report.Apart.Edits = append(d.report.Apart.Edits, Edit{Node: n.name, Key: key, What: what, Fields: fields})
		return nil
	}
	if err := d.addNames(i, n, do); err != nil {
		return err
	}
	f := sharedFields[i]
	err := do(regionKey(shared), fmt.Sprintf("set %s to %q", f.field, f.value), 1, func(tx *replica.Tx) error {
		return tx.Doc(regionKey(shared)).Set(crdt.Path{f.field}, f.value)
	})
	if err != nil {
		return err
	}
	if name := disputedNames[i]; name != "" {
		err := do(regionKey(disputed), fmt.Sprintf("set name/en to %q", name), 1, func(tx *replica.Tx) error {
			return tx.Doc(regionKey(disputed)).Set(crdt.Path{"name", "en"}, name)
		})
		if err != nil {
			return err
		}
	}
	if i == 0 {
		err := do(regionKey(deleted), "delete the record", 1, func(tx *replica.Tx) error { return tx.Doc(regionKey(deleted)).Delete() })
		if err != nil {
			return err
		}
	}
	return do(counterKey, fmt.Sprintf("count %d edits", edits), 0, func(tx *replica.Tx) error {
		return tx.Doc(counterKey).Increment(crdt.Path{"edits"}, int64(edits))
	})
}

// addNames adds the names in the node's language to all regions, but to the one that this node deletes.
func (d *demo) addNames(i int, n *node, do func(key, what string, fields int, fn func(tx *replica.Tx) error) error) error {
	names := make(map[string]string)
	for _, g := range world() {
		if name := g.name(n.language); name != "" && (i > 0 || g.code != deleted) {
			names[g.key()] = name
		}
	}
	what := "add the names in " + languageName(n.language)
	return do("region/*", what, len(names), func(tx *replica.Tx) error {
		for key, name := range names {
			if err := tx.Doc(key).Set(crdt.Path{"name", n.field}, name); err != nil {
				return err
			}
		}
		return nil
	})
}
