package quicnet_test

import (
	"context"
	"fmt"
	"time"

	"github.com/anabranch-db/anabranch/net/quicnet"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// Two nodes that allow each other and nobody else; one sends a message to the other.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	harbour, err := quicnet.GenerateIdentity() // LoadOrCreateIdentity keeps one in a store directory
	check(err)
	ship, err := quicnet.GenerateIdentity()
	check(err)
	server, err := quicnet.New(quicnet.Config{
		Identity: harbour, Listen: "127.0.0.1:0",
		Allow: func(peer replica.PeerID) bool { return peer == ship.PeerID() },
	})
	check(err)
	defer server.Close()
	client, err := quicnet.New(quicnet.Config{
		Identity: ship, // no Listen: it only dials
		Allow:    func(peer replica.PeerID) bool { return peer == harbour.PeerID() },
	})
	check(err)
	defer client.Close()

	conn, err := client.Dial(ctx, server.Addrs()[0], harbour.PeerID())
	check(err)
	stream, err := conn.OpenStream(ctx, "cargo")
	check(err)
	frame, err := client.Marshal(nil, &protocol.Refusal{Code: protocol.RefusedGap, Text: "the hold is full"})
	check(err)
	check(stream.WriteFrames(frame))

	accepted, err := server.Accept(ctx)
	check(err)
	space, incoming, err := accepted.AcceptStream(ctx)
	check(err)
	received, err := incoming.ReadFrame()
	check(err)
	message, err := server.Unmarshal(received)
	check(err)
	fmt.Println(accepted.Peer() == ship.PeerID(), space, message.(*protocol.Refusal).Text)
	// Output: true cargo the hold is full
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
