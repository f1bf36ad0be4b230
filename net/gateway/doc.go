// Package gateway serves documents over HTTP to those that are not nodes: browsers, Electron, curl.
//
// Everything hangs below /v1. A client follows a space, or a part of it, through any of three channels, which carry the same
// change items (item.go) with the same cursors, and may go from one to another, or to another node, at any point:
//
//	WebSocket  /v1/ws                          both ways, many subscriptions on one connection
//	SSE        /v1/spaces/{space}/events       one subscription
//	long-poll  /v1/spaces/{space}/changes      one answer for each request
//
// It writes by transactions that carry its own numbering (push.go), each of which the node applies once, and by REST. A client is not a
// replica: the node gives its writes their dots, and learns from them what the client had read.
//
// An example. The space holds todo/1, whose two fields the transaction D1 wrote. A client reads
//
//	{"key":"todo/1","cursor":"8f0c…-12","doc":{"done":false,"title":"milk"},"dots":{"D1":true},…}
//
// and, with no network, sets the title and deletes the document on another day. It sends
//
//	{"seq":7,"at":…,"ops":[{"op":"delete","key":"todo/1","seen":{"D1":["/done","/title"]}}]}
//
// Had somebody set the title at D2 meanwhile, D2 is not among what was seen, so {"title":"oat milk"} survives.
//
// A change is turned into an item once, by the one watcher of its space, and kept in a ring of recent items, from which all
// subscriptions that are level are served (hub.go). One that lags reads the store at its own pace from its own cursor, so a slow reader holds
// no queue and nobody up.
//
// The package holds no documents and decides nothing about them: package replica does. docs/http-api.md describes the interface for those
// who write clients.
package gateway
