// Package quicnet carries sessions over QUIC. It proves who is at the other end, keeps out who is not allowed, and cuts
// streams into frames; what the frames say is not its business.
//
//	dialler                                   accepter
//	------- TLS 1.3, ALPN anabranch/1, both certificates -------   who it is: the Ed25519 keys
//	is it the expected peer, allowed?         is the peer allowed?
//	Hello {1.0, clock, addresses}  ------->                        control stream
//	                <-------  Hello {1.0, clock, addresses}
//	SpaceOpen {"inventory"}  ------->                              one stream a space, opened by either side
//	Vectors, Delta, Ack, ...  <------>                             frames of package wire
//
// The certificates are signed by themselves, their dates and names mean nothing: the public key is the peer ID. A refusal comes after
// the TLS handshake and before anything else is said, as a QUIC close with a code and a reason, so that both sides can log
// what is wrong. Whoever can reach the port thus learns this node's peer ID, and a dialled server
// the dialler's; anything more takes being allowed.
//
// A connection survives a change of the peer's address (QUIC migration: the node that dialled may change networks). Keep-alives find dead
// peers within IdleTimeout; a node that was restarted answers for its lost connections with a stateless reset, so peers find out
// within KeepAlive.
//
// Memory that a peer can make us hold: what it sent and nobody read, at first 256 KiB a stream and 512 KiB a connection; the windows
// grow, to 4 and 8 MiB at most, only while the streams are being read.
//
// It does not redial, does not choose between two connections to one peer, and does not know which spaces there are: package
// replica does.
package quicnet
