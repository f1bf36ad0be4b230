package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
)

func newStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Describe the store, its spaces, and how far each peer is",
		Long: `Describe the store, its spaces, and how far each peer is. Two nodes that hold the same writes show the same digest of a space; if
they do not, run doctor on both.`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a := appOf(cmd)
			return a.withNode(cmd.Context(), false, func(n node.Node) error {
				st, err := n.Status(cmd.Context())
				if err != nil {
					return err
				}
				return a.print(st, func(w io.Writer) { printStatus(w, st) })
			})
		},
	}
}

func printStatus(w io.Writer, st node.Status) {
	fmt.Fprintf(w, "Store:    %s, %s on disk\n", st.Dir, bytesText(st.DiskBytes))
	if st.Serving {
		fmt.Fprintf(w, "Node:     serving, process %d, version %s\n", st.PID, st.Version)
	} else {
		fmt.Fprintf(w, "Node:     not serving\n")
	}
	fmt.Fprintf(w, "Peer ID:  %s\n", orDash(st.PeerID))
	if len(st.Addresses) > 0 {
		fmt.Fprintf(w, "Listens:  %s\n", strings.Join(st.Addresses, ", "))
	}
	if len(st.SeenAt) > 0 {
		fmt.Fprintf(w, "Seen at:  %s\n", strings.Join(st.SeenAt, ", "))
	}
	if st.Gateway != "" {
		fmt.Fprintf(w, "Gateway:  %s\n", st.Gateway)
	}
	if st.Admin != "" {
		fmt.Fprintf(w, "Watching: http://%s\n", st.Admin)
	}
	connected, away := 0, 0
	for _, p := range st.Peers {
		switch {
		case p.Connected:
			connected++
		case p.Dialled:
			away++
		}
	}
	if st.Serving {
		fmt.Fprintf(w, "Peers:    %d connected, %d not\n", connected, away)
	}
	printClock(w, st.Clock)
	if len(st.Spaces) == 0 {
		fmt.Fprintln(w, "Spaces:   none yet")
		return
	}
	t := newTable("SPACE", "DOCUMENTS", "CONFLICTS", "DIGEST", "PEER", "STATE", "PENDING", "LAST ERROR")
	for _, s := range st.Spaces {
		name, documents, conflicts, digest := printable(s.Name), fmt.Sprint(s.Documents), fmt.Sprint(s.Conflicts), s.Digest
		if !s.Closed {
			digest += " (incomplete)"
		}
		if len(s.Peers) == 0 {
			t.row(name, documents, conflicts, digest)
		}
		for _, p := range s.Peers {
			t.row(name, documents, conflicts, digest, shortID(p.Peer), spacePeerState(p), fmt.Sprint(p.Pending), printable(p.LastError))
			name, documents, conflicts, digest = "", "", "", ""
		}
	}
	fmt.Fprintln(w)
	_ = t.write(w) // into memory: it cannot fail
	for _, s := range st.Spaces {
		printSnapshot(w, s)
		printRepair(w, s)
	}
	printStability(w, st.Spaces)
}

// printRepair tells of damage, and of what repairs did.
func printRepair(w io.Writer, s node.SpaceStatus) {
	switch r := s.Repair; {
	case r.Damaged != "":
		fmt.Fprintf(w, "%s: DAMAGED, not repaired yet: %s\n", printable(s.Name), printable(r.Damaged))
	case r.Last != nil:
		fmt.Fprintf(w, "%s: repaired at %s; documents changed by repairs since the start: %d\n",
			printable(s.Name), r.Last.UTC().Format(time.RFC3339), r.Documents)
	}
}

// printSnapshot tells of the snapshot that a space takes.
func printSnapshot(w io.Writer, s node.SpaceStatus) {
	n := s.Snapshot
	if n == nil {
		return
	}
	fmt.Fprintf(w, "\nSpace %s takes a snapshot from %s: %d of about %d documents, %s of %s", printable(s.Name), shortID(n.Peer),
		n.Documents, n.KnownDocuments, bytesText(int64(n.Bytes)), bytesText(int64(n.KnownBytes)))
	if !n.Active {
		fmt.Fprint(w, "; it has stopped, and goes on when that peer is there again")
	}
	fmt.Fprintln(w)
}

func spacePeerState(p node.SpacePeer) string {
	switch {
	case p.Mismatch:
		return "MISMATCH"
	case p.Snapshot != nil:
		return fmt.Sprintf("gets a snapshot: %d documents", p.Snapshot.Documents)
	case p.Connected && p.Level:
		return "level"
	case p.Connected:
		return "syncing"
	}
	return "away"
}

func shortID(id string) string {
	if len(id) > 8 {
		return id[:8]
	}
	return orDash(id)
}

func newPeersCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "peers",
		Short: "List the peers that are connected, called without success, or known",
		Long: `List the peers that are connected, called without success, or known: those could be called if more were needed. FROM says where an
address comes from: "configured" (--peer), "incoming" (the peer called), "itself" (the peer said so), "peers" (others did), "mdns" or "ticket".
Without a node that serves the store there are none, and the exit code is 3.`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a := appOf(cmd)
			return a.withNode(cmd.Context(), false, func(n node.Node) error {
				st, err := n.Status(cmd.Context())
				if err != nil {
					return err
				}
				if !st.Serving {
					return fmt.Errorf("%w: no node serves the store, so no peer is connected: start `anabranch serve`", node.ErrOffline)
				}
				return a.printPeers(st.Peers)
			})
		},
	}
}

func (a *app) printPeers(peers []node.Peer) error {
	t := newTable("PEER", "ADDRESS", "FROM", "STATE", "SINCE", "SENT", "RECEIVED", "CLOCK", "LAST ERROR")
	for _, p := range peers {
		if a.wantsJSON() {
			if err := a.print(p, nil); err != nil {
				return err
			}
			continue
		}
		state, since := "known", ""
		switch {
		case p.Connected:
			state = "connected"
		case p.Dialled:
			state = "not connected"
		}
		if p.Since != nil {
			since = p.Since.Local().Format(time.DateTime)
		}
		skew := (time.Duration(p.SkewMS) * time.Millisecond).String()
		t.row(orDash(p.ID), printable(p.Address), p.Source, state, since, bytesText(int64(p.Sent)), bytesText(int64(p.Received)), skew, printable(p.LastError))
	}
	if a.wantsJSON() {
		return nil
	}
	if t.empty() {
		fmt.Fprintln(a.stderr, "no peers")
		return nil
	}
	return t.write(a.stdout)
}
