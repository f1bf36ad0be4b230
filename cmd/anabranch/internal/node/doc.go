// Package node is what a command can ask of a node, whether this process has the store open or another one serves it.
//
//	       command
//	          |
//	        Node
//	      /      \
//	 Local        control.Client ~~~ Unix socket ~~~ control.Server
//	   |                                                   |
//	replica                                              Local
//
// So a command is written once, and the types here are at the same time what goes over the socket and what commands
// print with --output jsonl: their JSON names are a promise to scripts.
package node
