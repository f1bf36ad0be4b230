package gateway_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/anabranch-db/anabranch/net/gateway"
	"github.com/anabranch-db/anabranch/replica"
)

// A gateway in a program of one's own: an http.Handler, with the tokens that the program makes.
func Example() {
	r, err := replica.Open(replica.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	tokens, err := gateway.OpenTokens(gateway.TokensConfig{}) // in memory; Dir keeps them
	if err != nil {
		fmt.Println(err)
		return
	}
	g, err := gateway.New(gateway.Config{Replica: r, Authenticate: tokens.Authenticate, Revoked: tokens.Revoked})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer g.Close()
	token, _, err := tokens.Issue(gateway.TokenSpec{Subject: "ada", Space: "notes", Rights: replica.WriteRights})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, ask := range []struct{ method, body string }{
		{http.MethodPut, `{"title": "milk", "done": false}`}, {http.MethodPatch, `{"done": true}`}, {http.MethodGet, ""},
	} {
		req := httptest.NewRequest(ask.method, "http://localhost/v1/spaces/notes/docs/todo/1", strings.NewReader(ask.body))
		req.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		g.ServeHTTP(w, req)
		fmt.Println(w.Code)
		if ask.method == http.MethodGet {
			fmt.Println(w.Body)
		}
	}
	// Output:
	// 201
	// 200
	// 200
	// {"done":true,"title":"milk"}
}
