package demo

import "time"

// Report is what happened. Its JSON form is what `anabranch demo --json` prints.
type Report struct {
	OK      bool    `json:"ok"`
	Seconds float64 `json:"seconds"`
	Nodes   []Node  `json:"nodes"`

	// Written is about the first records, before the cut.
	Written struct {
		Regions int     `json:"regions"`
		Seconds float64 `json:"seconds"` // until all nodes had them
	} `json:"written"`

	// Apart is what the nodes did while they were cut off.
	Apart struct {
		Edits       []Edit           `json:"edits"`
		Pending     map[string]int64 `json:"pending"` // changes that each node has for its peers
		LostPackets int64            `json:"lost_packets"`
		Seconds     float64          `json:"seconds"`
	} `json:"apart"`

	// Healed is how it looked once the nodes had met again.
	Healed struct {
		Seconds   float64    `json:"seconds"` // from healing the network until all were level
		Documents int        `json:"documents"`
		Fields    int        `json:"fields"`
		Merged    []Field    `json:"merged"` // of the record that everybody edited, with who wrote each
		Survived  []Field    `json:"survived"`
		Edits     int64      `json:"edits"` // the counter
		Conflicts []Conflict `json:"conflicts"`
	} `json:"healed"`

	// Settled is about the write that had seen all values.
	Settled struct {
		Node      string  `json:"node"`
		Value     string  `json:"value"`
		Seconds   float64 `json:"seconds"`
		Conflicts int     `json:"conflicts"` // left, at all nodes together
	} `json:"settled"`
}

// Node is one of the nodes. The last members are as they are in the end.
type Node struct {
	Name      string `json:"name"`
	PeerID    string `json:"peer_id"`
	Address   string `json:"address"`
	Documents int    `json:"documents"`
	Digest    string `json:"digest"`
	Contents  string `json:"contents"` // hash of all documents as they show
}

// Edit is what a node did while it was cut off.
type Edit struct {
	Node   string `json:"node"`
	Key    string `json:"key"` // "region/*": all
	What   string `json:"what"`
	Fields int    `json:"fields"`
}

// Field is a field as it shows, and who wrote it.
type Field struct {
	Path  string `json:"path"`
	Value string `json:"value"`
	Node  string `json:"node"`
}

// Conflict is a field that several nodes wrote without having seen each other.
type Conflict struct {
	Key   string    `json:"key"`
	Path  string    `json:"path"`
	Shown Written   `json:"shown"`
	Kept  []Written `json:"kept"`
}

// Written is a value with its author.
type Written struct {
	Value string    `json:"value"`
	Node  string    `json:"node"`
	Time  time.Time `json:"time"`
}
