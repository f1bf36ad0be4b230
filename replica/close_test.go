package replica_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

func TestCloseLosesNoTransactionOnItsWay(t *testing.T) {
	for range 300 {
		r, err := replica.Open(replica.Config{})
		if err != nil {
			t.Fatal(err)
		}
		s := space(t, r)
		const writers = 4
		started, ended := make(chan struct{}, writers), make(chan error, writers)
		for w := range writers {
			go func() {
				var err error
				for i := 0; err == nil; i++ {
					_, err = s.Update(context.Background(), func(tx *replica.Tx) error {
						return tx.Doc(fmt.Sprint(w)).Set(crdt.Path{"x"}, i)
					})
					if i == 0 {
						started <- struct{}{}
					}
				}
				ended <- err
			}()
		}
		for range writers {
			<-started
		}
		r.Close()
		for range writers {
			select {
			case err := <-ended:
				if !errors.Is(err, replica.ErrClosed) {
					t.Fatal(err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("a transaction waits for ever")
			}
		}
	}
}
