// Package control lets commands reach a node that serves a store, over a Unix socket in the store directory.
//
// A Server answers for a node.Node, a Client is one. They speak HTTP with JSON, so that
//
//	curl --unix-socket ~/.local/share/anabranch/control.sock http://node/v1/status
//
// works as well. Whoever may open the socket (mode 0600, in a directory of mode 0700) may do everything; there is no
// further permission. It is not the gateway: that one is for other users and other machines.
//
// An answer that may be long is a stream of lines, each an object with one member:
//
//	{"item":{"key":"apple","doc":{"price":3}}}
//	{"keys":120000}                                     progress
//	{"error":{"code":"damaged","message":"…"}}          the last line of a stream that failed
//	{"end":true}                                        the last line of one that did not
//
// A stream without its last line was cut off, and is reported so.
package control
