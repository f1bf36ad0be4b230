package progress

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestALineASecondAndOneInTheEnd(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	l := &lines{w: &out, now: func() time.Time { return now }}
	for i := range 25 {
		l.Report(State{Work: "import", Unit: "bytes", Done: int64(i), Total: 100})
		now = now.Add(100 * time.Millisecond)
	}
	l.Finish()
	want := `{"work":"import","done":0,"total":100,"unit":"bytes","seconds":0}
{"work":"import","done":10,"total":100,"unit":"bytes","seconds":1}
{"work":"import","done":20,"total":100,"unit":"bytes","seconds":2}
{"work":"import","done":24,"total":100,"unit":"bytes","seconds":2.5,"finished":true}
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestNothingIsShownWhereNobodyLooks(t *testing.T) {
	var out bytes.Buffer
	for _, mode := range []string{Auto, None} {
		r := New(&out, mode)
		r.Report(State{Work: "import"})
		r.Finish()
	}
	if out.Len() > 0 {
		t.Errorf("a pipe got %q", out.String())
	}
	New(&out, JSON).Finish()
	if out.Len() > 0 {
		t.Errorf("work that did not begin reported %q", out.String())
	}
}

func TestBarComesAndGoes(t *testing.T) {
	for _, total := range []int64{0, 100} {
		var out bytes.Buffer
		b := &bar{w: &out, begun: time.Now()}
		b.Report(State{Work: "import", Unit: "bytes", Done: 50, Total: total, Count: 7, Counted: "documents"})
		if d := b.describe(); !strings.HasPrefix(d, "7 documents, ") {
			t.Errorf("described as %q", d)
		}
		b.Finish()
		b.Finish()
	}
}
