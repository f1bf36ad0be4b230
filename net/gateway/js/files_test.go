package js_test

import (
	"io/fs"
	"testing"

	"github.com/anabranch-db/anabranch/net/gateway/js"
)

func TestClientIsEmbedded(t *testing.T) {
	for _, name := range []string{"index.js", "fallback.js", "index.d.ts"} {
		b, err := fs.ReadFile(js.Files(), name)
		if err != nil || len(b) == 0 {
			t.Errorf("%s: %d bytes, %v; run npm run build in net/gateway/js", name, len(b), err)
		}
	}
}
