// Anabranch keeps documents that every node has in full, edits offline, and exchanges with its peers.
//
//	$ anabranch put apple '{"price": 3}'               saved on this node; the store is made
//	$ anabranch set apple /colour --string red
//	$ anabranch get apple
//	{
//	  "colour": "red",
//	  "price": 3
//	}
//	$ anabranch serve --listen 0.0.0.0:7420 --allow ID-OF-THE-OTHER
//
// `anabranch help` lists the commands and the exit codes. The sessions in testdata/*.txtar show each command at work, and what
// is said when something is wrong; they are run as tests.
//
// # Served or not
//
// A command first looks for a node that serves the store, by the socket control.sock in the store directory, and lets that do the
// work (package control); if there is none, it opens the store itself. A store is open in one process at a time, so two commands at the same
// moment wait for each other, for as long as --lock-wait says.
//
// # Output for programs
//
// With --json (or --output jsonl) each result is one line of JSON, and so is an error, on standard error:
//
//	put set rm incr   {"key", "changed", "replica", "time", "sync", "peers"}        peers with --synced only
//	get               {"key", "path", "doc", "cursor", "conflicts"}                 doc is the value at the path
//	get --conflicts   {"path", "value", "author", "time", "shown_path", "shown"}    a line for each
//	ls                {"key"}, with --long {"key", "doc", "cursor"}                 a line for each
//	watch             {"cursor", "key", "deleted", "doc"}                           a line for each
//	import            {"imported", "skipped", "records"}
//	export FILE       {"file", "exported", "earlier"}
//	export            the records themselves
//	serve             {"peer_id", "addresses", "dir", "join"}                       one line when it is ready
//	status            node.Status
//	peers             node.Peer, a line for each
//	id                {"peer_id", "dir"}
//	space create, ls  node.Space, a line for each
//	invite, invite ls node.Ticket, a line for each
//	join              node.Space
//	members, revoke   node.Permission, a line for each
//	doctor            node.Report, a line for each space
//	config print      {"name", "values", "source", "where"}, a line for each
//	version           {"version", "go", "platform"}
//	an error          {"error": {"code", "exit", "message"}}
//
// Names stay as they are; new ones may be added. Members that are empty may be left out. --progress json writes
// progress.State to standard error, a line a second.
//
// # What it does not do
//
// There is no permission among the users of one machine beyond that of the files: who may open the socket may do everything. Clients
// that are not nodes (browsers, other languages) are the business of the gateway, not of this command.
package main
