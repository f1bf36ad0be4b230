package gateway

import (
	_ "embed"
	"net/http"
)

//go:embed asyncapi.json
var asyncAPI []byte

// serveAsyncAPI serves the description of the channels and their messages (AsyncAPI 3).
func serveAsyncAPI(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, asyncAPI) }
