package memnet_test

import (
	"context"
	"fmt"

	"github.com/anabranch-db/anabranch/net/memnet"
)

// A connection breaks, and another is dialled.
func Example() {
	ctx := context.Background()
	network := memnet.New(1)
	a, b := network.Node("a"), network.Node("b")
	defer a.Close()
	defer b.Close()

	conn, err := a.Dial(ctx, "mem:b", b.Self())
	fmt.Println("dialled:", err)
	network.Break(a.Self(), b.Self())
	<-conn.Done()
	fmt.Println("then:", conn.Err())
	_, err = a.Dial(ctx, "mem:b", b.Self())
	fmt.Println("again:", err)
	// Output:
	// dialled: <nil>
	// then: connection lost
	// again: <nil>
}
