package gateway

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/store"
)

// Codes of transactions that are to be sent again, beside those of problems.
const (
	codeBehind  = "behind"
	codeStalled = "stalled"
)

// codeOtherNode refuses a push that was meant for another node: it keeps another record of what it has answered.
const codeOtherNode = "other-node"

// stalls remembers, for one connection, at which transaction of each client it has come to a halt: those after it must not overtake it.
type stalls map[receiptKey]uint64

// maxStalls bounds the clients of one connection that have come to a halt at the same time.
const maxStalls = 1000

// pushResults is what became of the transactions of one push, in their order, as JSON.
type pushResults struct {
	json []byte

	key  receiptKey
	last *receipt // of the last one that was accepted; nil if none was
}

// remember lets those who ask be told which nodes hold what was accepted. It is called when the answer is on its way, so that they
// hear of that first.
func (p *pushResults) remember(g *Gateway) {
	if p.last == nil {
		return
	}
	kept, release := g.receipts.of(p.key)
	defer release()
	kept.add(p.last.seq, p.last.vector)
}

func (p *pushResults) begin(seq uint64, status string) {
	if len(p.json) > 0 {
		p.json = append(p.json, ',')
	}
	p.json = strconv.AppendUint(append(p.json, `{"seq":`...), seq, 10)
	p.json = append(append(append(p.json, `,"status":"`...), status...), '"')
}

func (p *pushResults) settled(r replica.ClientResult) {
	if r.Rejected != nil {
		p.rejected(r.Seq, r.Rejected.Code, r.Rejected.Detail, r.Duplicate)
		return
	}
	p.last = &receipt{r.Seq, r.Receipt.Vector}
	p.begin(r.Seq, "accepted")
	p.json = append(append(append(p.json, `,"cursor":"`...), r.Receipt.Cursor.String()...), '"')
	if !r.Receipt.Dot.IsZero() {
		p.json = append(appendDot(append(p.json, `,"dot":"`...), r.Receipt.Dot), '"')
	}
	p.end(r.Duplicate)
}

func (p *pushResults) rejected(seq uint64, code, detail string, duplicate bool) {
	p.begin(seq, "rejected")
	p.json = appendString(append(p.json, `,"code":`...), code)
	p.json = appendString(append(p.json, `,"detail":`...), detail)
	p.end(duplicate)
}

func (p *pushResults) end(duplicate bool) {
	if duplicate {
		p.json = append(p.json, `,"duplicate":true`...)
	}
	p.json = append(p.json, '}')
}

func (p *pushResults) retry(seq uint64, code, detail string, after time.Duration) {
	p.begin(seq, "retry")
	p.json = appendString(append(p.json, `,"code":`...), code)
	p.json = appendString(append(p.json, `,"detail":`...), detail)
	p.json = strconv.AppendInt(append(p.json, `,"after":`...), after.Milliseconds(), 10)
	p.end(false)
}

// push makes the transactions of one message, in their order. It returns an error, a *Problem, for what is not about one of them: then none
// was made.
func (g *Gateway) push(ctx context.Context, gr Grant, m *pushMessage, halted stalls) (pushResults, error) {
	var p pushResults
	if m.Node != "" && m.Node != g.node() {
		return p, &Problem{Status: http.StatusConflict, Code: codeOtherNode, Detail: "this is node " + g.node()}
	}
	space, err := g.space(gr, m.Space, replica.WriteRights)
	if err == nil {
		err = g.spend(gr, len(m.Transactions))
	}
	if err != nil {
		g.pushNothing(&p, m, problemOf(err))
		return p, nil
	}
	k := receiptKey{space, m.Client}
	p.key = k
	if len(halted) >= maxStalls && halted[k] == 0 {
		return p, &Problem{Status: http.StatusTooManyRequests, Code: CodeRateLimited, Detail: "too many clients have come to a halt on this connection", RetryAfter: time.Minute}
	}
	for txs := m.Transactions; len(txs) > 0; {
		if at := halted[k]; at != 0 && txs[0].Seq > at {
			p.retry(txs[0].Seq, codeStalled, "transaction "+strconv.FormatUint(at, 10)+" comes first", time.Second)
			g.meter.transaction("retry")
			txs = txs[1:]
			continue
		}
		results, failed := g.settle(ctx, space, gr.Subject, upTo(txs, halted[k]))
		for _, r := range results {
			p.settled(r)
			g.meter.transaction(outcome(r))
			if r.Seq >= halted[k] {
				delete(halted, k)
			}
		}
		txs = txs[len(results):]
		if failed != nil {
			g.halt(&p, txs[0].Seq, failed)
			halted[k] = txs[0].Seq
			txs = txs[1:]
		}
	}
	if len(m.Transactions) == 0 && m.Replicate > 0 && m.Floor > 1 {
		err = g.recall(ctx, space, gr.Subject, m, &p)
	}
	return p, err
}

// upTo returns the transactions that may be made together: if the client has come to a halt, none that would overtake the one at which it did.
func upTo(txs []pushedTransaction, halted uint64) []pushedTransaction {
	for i, t := range txs {
		if halted == 0 || t.Seq == halted {
			return txs
		}
		if t.Seq > halted {
			return txs[:i]
		}
	}
	return txs
}

// settle makes the transactions up to the first that is rejected without being tried, or that one; fewer only with an error.
func (g *Gateway) settle(ctx context.Context, space *replica.Space, subject string, txs []pushedTransaction) ([]replica.ClientResult, error) {
	if first := txs[0]; first.rejected != nil {
		r, err := space.RejectClient(ctx, first.Client, subject, first.Seq, *first.rejected)
		if err != nil {
			return nil, err
		}
		return []replica.ClientResult{r}, nil
	}
	var run []replica.ClientTransaction
	for _, t := range txs {
		if t.rejected != nil {
			break
		}
		t.Subject = subject
		run = append(run, t.ClientTransaction)
	}
	return space.ApplyClientAll(ctx, run)
}

func outcome(r replica.ClientResult) string {
	switch {
	case r.Duplicate:
		return "duplicate"
	case r.Rejected != nil:
		return "rejected"
	}
	return "accepted"
}

// pushNothing answers transactions none of which can be made. Who may not write is told so for good, though not in a record: nobody
// without the right to write makes this node write. All else may change.
func (g *Gateway) pushNothing(p *pushResults, m *pushMessage, why *Problem) {
	for _, t := range m.Transactions {
		if why.Code == CodeForbidden {
			p.rejected(t.Seq, why.Code, why.Detail, false)
			g.meter.transaction("rejected")
		} else {
			p.retry(t.Seq, why.Code, why.Detail, max(why.RetryAfter, time.Second))
			g.meter.transaction("retry")
		}
	}
}

// halt answers a transaction that failed for a reason that may pass.
func (g *Gateway) halt(p *pushResults, seq uint64, err error) {
	why := problemOf(err)
	code, after := CodeBusy, max(why.RetryAfter, time.Second)
	switch {
	case errors.Is(err, replica.ErrBehind):
		code = codeBehind
	case errors.Is(err, store.ErrNoSpace), why.Code == CodeDiskFull:
		code = CodeDiskFull
	case errors.Is(err, replica.ErrPermission): // this node's, which may come back
		code, after = CodeForbidden, time.Minute
	case why.Code == CodeInternal:
		g.cfg.Logger.Error("a client's transaction failed", "error", err)
	}
	detail := why.Detail
	if code == codeBehind {
		detail = err.Error()
	}
	p.retry(seq, code, detail, after)
	g.meter.transaction("retry")
}

// recall finds out which transactions other nodes have to hold for a client that asks for nothing else, as after a reconnect. Everything below its floor is
// settled, so asking for that again changes nothing.
func (g *Gateway) recall(ctx context.Context, space *replica.Space, subject string, m *pushMessage, p *pushResults) error {
	r, err := space.ApplyClient(ctx, replica.ClientTransaction{Client: m.Client, Subject: subject, Seq: m.Floor - 1, At: g.cfg.Now(), Force: true})
	if err != nil {
		return err
	}
	if r.Rejected == nil || r.Receipt.Vector.Len() > 0 {
		p.last = &receipt{r.Seq, r.Receipt.Vector}
	}
	return nil
}

// appendReplicated appends the members of the message that tells which transactions so many other nodes hold.
func appendReplicated(dst []byte, space string, client crdt.ReplicaID, seq uint64, nodes int) []byte {
	dst = appendString(append(dst, `"space":`...), space)
	dst = append(append(append(dst, `,"client":"`...), client.String()...), `","seq":`...)
	dst = strconv.AppendUint(dst, seq, 10)
	return strconv.AppendInt(append(dst, `,"nodes":`...), int64(nodes), 10)
}
