package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
)

// gatewayRequest asks the gateway of the node that serves the present store, with the token in a file; the token "none" is none.
func gatewayRequest(ctx context.Context, ts *testscript.TestScript, token, method, path, body string) *http.Response {
	ts.Check(ts.Exec("anabranch", "--json", "status"))
	var st node.Status
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &st))
	r, err := http.NewRequestWithContext(ctx, method, st.Gateway+path, strings.NewReader(body))
	ts.Check(err)
	if token != "none" {
		text, err := os.ReadFile(ts.MkAbs(token))
		ts.Check(err)
		r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(text)))
	}
	resp, err := http.DefaultClient.Do(r)
	ts.Check(err)
	return resp
}

func scriptHTTP(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 3 || len(args) == 4, "http TOKEN-FILE METHOD PATH [BODY]")
	body := ""
	if len(args) == 4 {
		body = args[3]
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	resp := gatewayRequest(ctx, ts, args[0], args[1], args[2], body)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%d %s\n", resp.StatusCode, answer)
}

// followKey is where a stream is kept that scriptFollow began: a channel that is closed when the stream has ended.
const followKey = "follow"

func scriptFollow(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "follow TOKEN-FILE PATH")
	ctx, cancel := context.WithCancel(context.Background())
	ts.Defer(cancel)
	resp := gatewayRequest(ctx, ts, args[0], http.MethodGet, args[1], "")
	if resp.StatusCode != http.StatusOK {
		ts.Fatalf("%s", resp.Status)
	}
	ended := ts.Value(followKey).(chan struct{})
	go func() {
		defer close(ended)
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body) // however it ends
	}()
}

func scriptFollowed(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 0, "followed")
	select {
	case <-ts.Value(followKey).(chan struct{}):
	case <-time.After(patience):
		ts.Fatalf("the stream has not ended")
	}
}
