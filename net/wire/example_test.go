package wire_test

import (
	"fmt"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/net/wire"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

func ExampleMarshal() {
	frame, err := wire.Marshal(nil, &protocol.Ack{VV: crdt.NewVersionVector(crdt.Dot{Replica: 0xa, Time: 0x10003})})
	if err != nil {
		panic(err)
	}
	fmt.Printf("% x\n", frame)
	message, err := wire.Unmarshal(frame)
	if err != nil {
		panic(err)
	}
	fmt.Println(message.(*protocol.Ack).VV)
	_, err = wire.Unmarshal(frame[:len(frame)-1])
	fmt.Println(err)
	// Output:
	// 00 00 00 14 12 91 c4 10 00 00 00 00 00 00 00 0a 00 00 00 00 00 01 00 03
	// {000000000000000a@1970-01-01T00:00:00.001Z+3}
	// Ack frame: length: it ends too early
}
