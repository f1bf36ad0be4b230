package demo

import (
	"fmt"
	"io"
	"strings"
)

// Printer shows the stages to people, in lines of at most 80 columns.
type Printer struct {
	w     io.Writer
	paint bool
}

// NewPrinter returns a Printer on w; with colour it uses the colours of a terminal, which carry no meaning of their own.
func NewPrinter(w io.Writer, colour bool) *Printer { return &Printer{w, colour} }

const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
)

var nodeColours = map[string]string{"oslo": "36", "lima": "35", "nairobi": "34"}

func (p *Printer) style(code, s string) string {
	if !p.paint || code == "" || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// node returns the name of a node, padded to the width of the longest.
func (p *Printer) node(name string) string {
	return p.name(name) + strings.Repeat(" ", max(0, 7-len(name)))
}

func (p *Printer) name(name string) string { return p.style(nodeColours[name], name) }

func (p *Printer) by(name string) string { return p.style(dim, "by ") + p.name(name) }

func (p *Printer) line(format string, args ...any) { fmt.Fprintf(p.w, format+"\n", args...) }

func (p *Printer) heading(text string) { p.line("\n%s", p.style(bold, text)) }

// Show writes one stage.
func (p *Printer) Show(s Stage, r *Report) {
	switch s {
	case Opened:
		p.opened(r)
	case Loaded:
		p.line("\n%s writes the world: %d regions with their English names, in one", p.name("oslo"), r.Written.Regions)
		p.line("transaction. %s later it is on the disks of all three.", seconds(r.Written.Seconds))
	case Apart:
		p.apart(r)
	case Healed:
		p.healed(r)
	case Settled:
		p.settled(r)
	case Finished:
		p.finished(r)
	}
}

func seconds(s float64) string {
	if s < 1 {
		return fmt.Sprintf("%.0f ms", s*1000)
	}
	return fmt.Sprintf("%.1f s", s)
}

func (p *Printer) opened(r *Report) {
	p.line("%s", p.style(bold, "Three nodes, each with its own store on disk and its own key, over QUIC"))
	for _, n := range r.Nodes {
		p.line("  %s  %-15s  %s", p.node(n.Name), n.Address, p.style(dim, "peer ID "+short(n.PeerID)))
	}
}

func short(id string) string {
	if len(id) > 16 {
		return id[:16] + "…"
	}
	return id
}

func (p *Printer) apart(r *Report) {
	p.heading("The network is cut: every packet is lost, and everybody goes on working")
	for _, e := range r.Apart.Edits {
		what := e.What
		if e.Fields > 1 {
			what += fmt.Sprintf(" (%d fields)", e.Fields)
		}
		p.line("  %s  %-10s  %s", p.node(e.Node), e.Key, what)
	}
	var waiting []string
	for _, n := range r.Nodes {
		waiting = append(waiting, fmt.Sprintf("%s %d", n.Name, r.Apart.Pending[n.Name]))
	}
	p.line("  %s", p.style(dim, "changes that wait for the peers: "+strings.Join(waiting, ", ")))
}

func (p *Printer) healed(r *Report) {
	h := &r.Healed
	p.heading(fmt.Sprintf("The network is back: %s later all three hold everything", seconds(h.Seconds)))
	p.line("  %s", p.style(dim, fmt.Sprintf("%d packets were lost meanwhile; %d documents, %d fields", r.Apart.LostPackets, h.Documents, h.Fields)))
	p.line("\n  %s  edited by all, in different fields: %s", regionKey(shared), p.style(green, "all of it is there"))
	p.fields(h.Merged)
	for _, c := range h.Conflicts {
		p.line("\n  %s  the same field edited by two: %s, none is lost", c.Key, p.style(yellow, "the newest shows"))
		p.value(c.Path, "shows", c.Shown)
		for _, k := range c.Kept {
			p.value(c.Path, "kept", k)
		}
	}
	p.line("\n  %s  deleted by oslo, edited by the others: %s", regionKey(deleted), p.style(green, "their edits survive"))
	p.fields(h.Survived)
	p.line("\n  %s  counted by all three: %s", counterKey, p.style(green, fmt.Sprintf("%d edits, the sum", h.Edits)))
}

func (p *Printer) fields(fields []Field) {
	for _, f := range fields {
		p.line("    %-10s %-18q %s", strings.TrimPrefix(f.Path, "/"), f.Value, p.by(f.Node))
	}
}

func (p *Printer) value(path, state string, v Written) {
	at := v.Time.Format("15:04:05.000")
	p.line("    %-10s %-5s  %-23q %s %s", strings.TrimPrefix(path, "/"), state, v.Value, p.style(dim, "by ")+p.node(v.Node), p.style(dim, "at "+at))
}

func (p *Printer) settled(r *Report) {
	s := &r.Settled
	p.heading("Whoever has seen both values settles it by writing the field again")
	p.line("  %s  %s  name/en = %q; %s later: %s", p.node(s.Node), regionKey(disputed), s.Value, seconds(s.Seconds), conflicts(s.Conflicts))
}

func conflicts(n int) string {
	switch n {
	case 0:
		return "no conflicts anywhere"
	case 1:
		return "1 conflict is left"
	}
	return fmt.Sprintf("%d conflicts are left", n)
}

func (p *Printer) finished(r *Report) {
	verdict := p.style(green, "equal")
	if !r.OK {
		verdict = p.style(red, "DIFFERENT")
	}
	p.heading("In the end")
	for i, n := range r.Nodes {
		note := ""
		if i == len(r.Nodes)-1 {
			note = "  " + verdict
		}
		p.line("  %s  %d documents  digest %s%s", p.node(n.Name), n.Documents, n.Digest, note)
	}
	p.line("\n%s in all. The stores were in a temporary folder and are removed.", seconds(r.Seconds))
}
