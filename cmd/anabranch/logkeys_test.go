package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// logMethods are those of slog that take a message and pairs of key and value.
var logMethods = map[string]bool{"Debug": true, "Info": true, "Warn": true, "Error": true, "With": true}

// logSynonyms are names that a thing has elsewhere. Here it has one, so that logs can be filtered by it.
var logSynonyms = map[string]string{
	"addr": "address", "err": "error", "why": "reason", "cause": "reason", "peer_id": "peer", "peerID": "peer", "space_name": "space", "db": "space",
	"key": "document", "doc": "document", "author": "replica", "replica_id": "replica",
}

var logKeyForm = regexp.MustCompile("^[a-z]+(_[a-z]+)*$")

// TestLogKeysAreStable reads the source: a key is one or more words in lower case, one thing has one key, and those in the manual are there.
func TestLogKeysAreStable(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "### Log")
	table, _, _ = strings.Cut(table, "\n##")
	documented := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)`").FindAllStringSubmatch(table, -1) {
		documented[m[1]] = true
	}
	used := make(map[string]bool)
	for _, root := range []string{"../../replica", "../../net", "."} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || !isLogCall(call) {
					return true
				}
				for _, key := range logKeys(call) {
					used[key] = true
					if other := logSynonyms[key]; other != "" {
						t.Errorf("%s: the log key %q is called %q here", set.Position(call.Pos()), key, other)
					}
					if !logKeyForm.MatchString(key) {
						t.Errorf("%s: the log key %q is not in lower case, joined by underscores", set.Position(call.Pos()), key)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(documented) == 0 {
		t.Error("the manual has no table of log keys")
	}
	for key := range documented {
		if !used[key] {
			t.Errorf("the manual has the log key %q, and nothing logs it", key)
		}
	}
}

// isLogCall reports whether a call is one of a logger: a method of slog on something that is named for it.
func isLogCall(call *ast.CallExpr) bool {
	s, ok := call.Fun.(*ast.SelectorExpr)
	if ok && s.Sel.Name == "log" { // of the refusals, which are logged at most so often
		return len(call.Args) > 1
	}
	if !ok || !logMethods[s.Sel.Name] {
		return false
	}
	name := ""
	switch x := s.X.(type) {
	case *ast.Ident:
		name = x.Name
	case *ast.SelectorExpr:
		name = x.Sel.Name
	}
	return name == "log" || name == "l" || strings.HasSuffix(strings.ToLower(name), "logger")
}

// logKeys returns the keys of a call: every second argument, behind the message if there is one.
func logKeys(call *ast.CallExpr) []string {
	first := 1
	if call.Fun.(*ast.SelectorExpr).Sel.Name == "With" {
		first = 0
	}
	var keys []string
	for i := first; i < len(call.Args); i += 2 {
		if lit, ok := call.Args[i].(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if key, err := strconv.Unquote(lit.Value); err == nil {
				keys = append(keys, key)
			}
		}
	}
	return keys
}
