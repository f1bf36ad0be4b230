package gateway

import (
	_ "embed"
	"net/http"
)

//go:embed openapi.json
var openAPI []byte

// serveOpenAPI answers with the description of all routes. It takes no token: it says nothing about this node.
func serveOpenAPI(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, openAPI) }
