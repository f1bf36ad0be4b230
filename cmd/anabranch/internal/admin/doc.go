// Package admin is an HTTP listener for those who watch a node: Prometheus, whatever restarts it, and people.
//
//	GET /metrics           numbers, in the format of Prometheus
//	GET /livez, /healthz   200 while the process answers
//	GET /readyz?verbose    200 if the node can read and write, else 503 and why
//	GET /status            what `anabranch status --json` prints
//	GET /debug/pprof/      profiles, only if asked for
//
// It changes nothing and holds no secret, but tells who a node's peers are; so it listens on the loopback interface unless told otherwise, and
// answers only requests whose Host no web page can have made up: see hosts.go.
package admin
