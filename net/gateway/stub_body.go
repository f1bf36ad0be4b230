package gateway

import (
	"io"
	"net/http"
)

const mediaJSON = "application/json"

func (g *Gateway) body(r *http.Request, types ...string) (text []byte, release func(), err error) {
	text, err = io.ReadAll(r.Body)
	return text, func() {}, err
}

const cursorHeader = "Anabranch-Cursor"
