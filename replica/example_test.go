package replica_test

import (
	"context"
	"fmt"
	"log" //nolint:depguard // as in a program

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
)

func Example() {
	ctx := context.Background()
	r, err := replica.Open(replica.Config{}) // in memory; set Dir to keep it
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	notes, err := r.Space("notes")
	if err != nil {
		log.Fatal(err)
	}
	_, err = notes.Update(ctx, func(tx *replica.Tx) error {
		doc := tx.Doc("todo/1")
		doc.Set(crdt.Path{"title"}, "milk")
		doc.Set(crdt.Path{"tags"}, map[string]any{"shop": true})
		doc.Increment(crdt.Path{"views"}, 1)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	doc, err := notes.Get(ctx, "todo/1")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(doc.Value())
	var todo struct {
		Title string `json:"title"`
		Views int    `json:"views"`
	}
	if err := doc.Decode(&todo); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%+v\n", todo)
	// Output:
	// map[tags:map[shop:true] title:milk views:1]
	// {Title:milk Views:1}
}

// Two replicas on an in-memory network: what one writes the other reads.
func ExampleSpace_WaitSynced() {
	ctx := context.Background()
	network := memnet.New(1)
	bob, err := replica.Open(replica.Config{Transport: network.Node("bob")})
	if err != nil {
		log.Fatal(err)
	}
	defer bob.Close()
	alice, err := replica.Open(replica.Config{
		Transport: network.Node("alice"),
		Peers:     []replica.Peer{{ID: memnet.ID("bob"), Addr: "mem:bob"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer alice.Close()
	notes, err := alice.Space("notes")
	if err != nil {
		log.Fatal(err)
	}
	receipt, err := notes.Update(ctx, func(tx *replica.Tx) error {
		return tx.Doc("greeting").Set(crdt.Path{"text"}, "hello")
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := notes.WaitSynced(ctx, receipt, 1); err != nil {
		log.Fatal(err)
	}
	theirs, err := bob.Space("notes")
	if err != nil {
		log.Fatal(err)
	}
	doc, err := theirs.Get(ctx, "greeting")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(doc.Value())
	// Output: map[text:hello]
}

// Watch resumes where a cursor says, and can be left at any time.
func ExampleSpace_Watch() {
	ctx := context.Background()
	r, err := replica.Open(replica.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	notes, err := r.Space("notes")
	if err != nil {
		log.Fatal(err)
	}
	for _, key := range []string{"a", "b", "c"} {
		_, err := notes.Update(ctx, func(tx *replica.Tx) error { return tx.Doc(key).Set(crdt.Path{"n"}, 1) })
		if err != nil {
			log.Fatal(err)
		}
	}
	var cursor replica.Cursor // the beginning
	for change, err := range notes.Watch(ctx, cursor) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(change.Key)
		cursor = change.Cursor
		if change.Key == "b" {
			break
		}
	}
	for change, err := range notes.Watch(ctx, cursor) { // goes on after "b"
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(change.Key)
		break
	}
	// Output:
	// a
	// b
	// c
}
