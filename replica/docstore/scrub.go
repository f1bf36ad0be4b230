package docstore

import (
	"context"
	"fmt"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// ScrubReport is what Scrub found.
type ScrubReport struct {
	Documents  int64
	Unreadable int64  // documents, or chunks of large ones
	First      string // of them, and why
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
	live, liveFields, bytes := int64(0), int64(0), 0
	last := ""
	count := func(key string) {
		live += liveDocuments(liveFields)
		liveFields, last = 0, key
		report.Documents++
	}
	for p, err := range pieces(ctx, r, space, protocol.Range{}) {
		if err != nil {
			return report, err
		}
		if p.at.Key != last {
			count(p.at.Key)
		}
		if p.damage != nil {
			if report.Unreadable++; report.Unreadable == 1 {
				report.First = fmt.Sprintf("document %q: %v", p.at.Key, p.damage)
			}
		}
		for _, f := range p.fields {
			liveFields += liveness(f.Cell)
			for _, e := range f.Cell.Live {
				digest.Add(p.at.Key, f.Path, e)
				bytes += e.Value.PackedSize()
			}
			bytes += len(f.Path)
		}
		if bytes > 64<<10 {
			if err := pace(bytes); err != nil {
				return report, err
			}
			bytes = 0
		}
	}
	live += liveDocuments(liveFields)
	switch {
	case report.Unreadable > 0:
	case digest != state.digest:
		report.Off = fmt.Sprintf("the digest should be %s, and the documents come to %s", state.digest, digest)
	case live != state.documents:
		report.Off = fmt.Sprintf("there should be %d documents, and there are %d", state.documents, live)
	}
	return report, nil
}
