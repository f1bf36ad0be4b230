package docstore

import (
	"context"
	"fmt"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/store"
)

// ScrubReport is what Scrub found.
type ScrubReport struct {
	Documents int64 // that are sound
	Broken    int   // that cannot be read, or do not fit together; counted up to 1000
	Why       error // the first of them is
	// Off says what the documents come to and should not: then some of them are gone or changed, though all that are there can be
	// read. Empty if all is well.
	Off string
}

// Scrub reads all documents of a space, so that damage is found before somebody asks for what is damaged: it checks every
// checksum, and whether the documents still come to the digest and the count that were kept up with the changes. pace is called now and
// then with the bytes read since the last call; it may wait. It does less than Verify, and memory does not grow with the space.
func Scrub(ctx context.Context, r store.Snapshot, space uint32, pace func(bytes int) error) (ScrubReport, error) {
	var report ScrubReport
	state, err := Load(r, space)
	if err != nil {
		return report, err
	}
	var digest crdt.Digest
	live, bytes := int64(0), 0
	w := &brokenWalk{ctx: ctx, r: r, space: state}
	w.sound = func(d *openDoc) error {
		report.Documents++
		live += liveDocuments(d.live)
		for _, p := range d.parts {
			bytes += p.bytes
		}
		for f := range d.doc.Fields() {
			for _, e := range f.Cell.Live {
				digest.Add(d.key, f.Path, e)
			}
		}
		if bytes < 64<<10 {
			return nil
		}
		n := bytes
		bytes = 0
		return pace(n)
	}
	if err := w.run(); err != nil {
		return report, err
	}
	report.Broken, report.Why = len(w.broken), w.why
	switch {
	case report.Broken > 0:
	case digest != state.digest:
		report.Off = fmt.Sprintf("the digest should be %s, and the documents come to %s", state.digest, digest)
	case live != state.documents:
		report.Off = fmt.Sprintf("there should be %d documents, and there are %d", state.documents, live)
	}
	return report, nil
}
