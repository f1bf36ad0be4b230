package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
)

func scriptFetch(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "fetch DIR PATH")
	ts.Check(ts.Exec("anabranch", "--json", "--dir", args[0], "status"))
	var st node.Status
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &st))
	resp, err := http.Get("http://" + st.Admin + args[1])
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%s\n%s", resp.Status, body)
}
