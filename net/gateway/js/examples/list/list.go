// Package list is an example of what the TypeScript client is for: a shopping list that several people edit at once, with or
// without a network. It is served by `anabranch demo --web`.
//
// files/list.js is the whole of it, and meant to be read. It shows a list that is there at once from the local copy, who is here and
// who edits what (a document for each window, written when the focus moves), the way of each change from this device to the node and
// to others, a plug that can be pulled, and a choice where two wrote the same.
package list

import (
	"embed"
	"net/http"

	"github.com/anabranch-db/anabranch/net/gateway/page"
)

//go:embed files
var embedded embed.FS

// Root is where the example is. It takes a token in its fragment: /list/#token=…, and, if that is wanted, a name: &name=….
const Root = "/list/"

// Handler serves the example below Root. It needs the gateway on the same origin, with the client library at /client/.
func Handler() http.Handler { return page.Serve(embedded, Root) }
