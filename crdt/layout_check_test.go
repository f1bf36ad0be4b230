package crdt_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// checkLayers finds imports that point up.
func (tree *layoutTree) checkLayers() (bad []string) {
	layer := func(dir string) int {
		top, _, _ := strings.Cut(dir, "/")
		return slices.Index(layoutLayers, top)
	}
	for _, pkg := range tree.packages {
		if layer(pkg.dir) < 0 {
			bad = append(bad, fmt.Sprintf("%s: holds Go files outside %s: move them into one of these", pkg.dir, strings.Join(layoutLayers, ", ")))
			continue
		}
		tree.eachImport(pkg, func(p string, pos token.Pos) {
			own, in := strings.CutPrefix(p, layoutModule+"/")
			if in && layer(own) > layer(pkg.dir) {
				bad = append(bad, fmt.Sprintf("%s: %s imports %s, but imports point cmd -> net -> replica -> crdt and never back: "+
					"declare here the small interface that is needed, and let the caller pass what fills it", tree.at(pos), pkg.dir, own))
			}
		})
	}
	return bad
}

// checkPure finds what gives a pure package an effect, or makes it depend on anything but its arguments.
func (tree *layoutTree) checkPure() (bad []string) {
	for _, pkg := range tree.packages {
		if !layoutBelow(pkg.dir, layoutPure...) {
			continue
		}
		tree.eachImport(pkg, func(p string, pos token.Pos) {
			if why := impureImport(p); why != "" {
				bad = append(bad, fmt.Sprintf("%s: %s is a pure package and must not import %s: %s", tree.at(pos), pkg.dir, p, why))
			}
		})
		bad = append(bad, tree.checkCalls(pkg, layoutPureCalls)...)
		bad = append(bad, tree.checkPureSyntax(pkg)...)
	}
	return bad
}

// impureImport says why a pure package must not import p, or nothing.
func impureImport(p string) string {
	own, isOwn := strings.CutPrefix(p, layoutModule+"/")
	first, _, _ := strings.Cut(p, "/")
	switch {
	case isOwn && layoutBelow(own, layoutPure...):
		return ""
	case isOwn:
		return "a pure package may only import pure ones: " + strings.Join(layoutPure, ", ")
	case strings.Contains(first, "."):
		if layoutBelow(p, slices.Collect(maps.Keys(layoutPureModules))...) {
			return ""
		}
		return "only modules known to have no effects are allowed: if this one has none, add it to layoutPureModules with the reason"
	}
	for q, why := range layoutPureImports {
		if layoutBelow(p, q) {
			return why
		}
	}
	return ""
}

// checkCalls finds uses of functions that calls forbids.
func (tree *layoutTree) checkCalls(pkg *layoutPackage, calls map[string]map[string]string) (bad []string) {
	tree.eachNode(pkg, func(n ast.Node) {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return
		}
		p, ok := pkg.qualifier(sel)
		if !ok {
			return
		}
		why, named := calls[p][sel.Sel.Name]
		if !named {
			why = calls[p][""]
		}
		if why != "" {
			bad = append(bad, fmt.Sprintf("%s: %s must not use %s.%s: %s", tree.at(sel.Pos()), pkg.dir, path.Base(strings.TrimSuffix(p, "/v2")), sel.Sel.Name, why))
		}
	})
	return bad
}

// checkPureSyntax finds goroutines, channels, and state outside the arguments.
func (tree *layoutTree) checkPureSyntax(pkg *layoutPackage) (bad []string) {
	say := func(n ast.Node, what, why string) {
		bad = append(bad, fmt.Sprintf("%s: %s must not %s: %s", tree.at(n.Pos()), pkg.dir, what, why))
	}
	const driver = "return the effect, and let whoever drives this package do it"
	tree.eachNode(pkg, func(n ast.Node) {
		switch n := n.(type) {
		case *ast.GoStmt:
			say(n, "start a goroutine", driver)
		case *ast.ChanType:
			say(n, "use a channel", driver)
		case *ast.SelectStmt:
			say(n, "select", driver)
		case *ast.SendStmt:
			say(n, "send on a channel", driver)
		case *ast.UnaryExpr:
			if n.Op == token.ARROW {
				say(n, "receive from a channel", driver)
			}
		case *ast.FuncDecl:
			if n.Recv == nil && n.Name.Name == "init" {
				say(n, "have an init function", "initialise the variable where it is declared")
			}
		case *ast.AssignStmt:
			for _, lhs := range n.Lhs {
				if v := pkg.global(lhs); v != "" && n.Tok != token.DEFINE {
					say(n, "assign to the global "+v, "two replicas in one process would share it; keep it in a value that the caller holds")
				}
			}
		case *ast.IncDecStmt:
			if v := pkg.global(n.X); v != "" {
				say(n, "change the global "+v, "two replicas in one process would share it; keep it in a value that the caller holds")
			}
		}
	})
	return bad
}

// global returns the name of the package-level variable that e is or is a part of, or "".
func (pkg *layoutPackage) global(e ast.Expr) string {
	for {
		switch x := e.(type) {
		case *ast.ParenExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.Ident:
			if v, ok := pkg.info.Uses[x].(*types.Var); ok && v.Pkg() != nil && v.Parent() == v.Pkg().Scope() {
				return x.Name
			}
			return ""
		default:
			return ""
		}
	}
}

// checkDocstore finds what would keep the simulator from running replica/docstore, and the race detector from passing it over.
func (tree *layoutTree) checkDocstore() (bad []string) {
	for _, pkg := range tree.packages {
		if !layoutBelow(pkg.dir, "replica/docstore") {
			continue
		}
		tree.eachImport(pkg, func(p string, pos token.Pos) {
			for q, why := range layoutDocstoreImports {
				if layoutBelow(p, q) {
					bad = append(bad, fmt.Sprintf("%s: %s must not import %s: %s", tree.at(pos), pkg.dir, p, why))
				}
			}
		})
		bad = append(bad, tree.checkCalls(pkg, map[string]map[string]string{"time": layoutClockCalls})...)
		bad = append(bad, tree.checkPureSyntax(pkg)...)
	}
	return bad
}

// checkDependencies finds confined modules outside their place. The first rule that knows a module decides.
func (tree *layoutTree) checkDependencies() (bad []string) {
	for _, pkg := range tree.packages {
		tree.eachImport(pkg, func(p string, pos token.Pos) {
			for _, rule := range layoutOnlyIn {
				if !layoutBelow(p, rule.module) {
					continue
				}
				if !layoutBelow(pkg.dir, rule.dirs...) {
					where := "only tests may"
					if len(rule.dirs) > 0 {
						where = "only tests and " + strings.Join(rule.dirs, ", ") + " may"
					}
					bad = append(bad, fmt.Sprintf("%s: %s imports %s, which %s: %s", tree.at(pos), pkg.dir, p, where, rule.why))
				}
				return
			}
		})
	}
	return bad
}

// checkSignatures finds types of other modules in what a library package exports.
func (tree *layoutTree) checkSignatures() (bad []string) {
	for _, pkg := range tree.packages {
		if !layoutBelow(pkg.dir, "crdt", "replica", "net") || pkg.isTestSupport() || slices.Contains(strings.Split(pkg.dir, "/"), "internal") {
			continue
		}
		for _, f := range pkg.files {
			if f.test {
				continue
			}
			layoutExported(f.syntax, func(name string, typ ast.Node) {
				for _, sel := range pkg.foreignTypes(typ) {
					bad = append(bad, fmt.Sprintf("%s: %s exports %s with the type %s of a dependency, so that users could not do without it, nor we replace it: "+
						"use a type of the standard library or of our own", tree.at(sel.Pos()), pkg.dir, name, types.ExprString(sel)))
				}
			})
		}
	}
	return bad
}

// layoutExported calls visit for each type that the exported declarations of f show.
func layoutExported(f *ast.File, visit func(name string, typ ast.Node)) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && (d.Recv == nil || layoutExportedReceiver(d.Recv.List[0].Type)) {
				visit(d.Name.Name, d.Type)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					if s.Name.IsExported() {
						visit(s.Name.Name, s)
					}
				case *ast.ValueSpec:
					if s.Type != nil && slices.ContainsFunc(s.Names, (*ast.Ident).IsExported) {
						visit(s.Names[0].Name, s.Type)
					}
				}
			}
		}
	}
}

func layoutExportedReceiver(e ast.Expr) bool {
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

// foreignTypes returns the selectors in a type expression that lead to another module, fields and methods that are
// not exported left out.
func (pkg *layoutPackage) foreignTypes(typ ast.Node) (found []*ast.SelectorExpr) {
	ast.Inspect(typ, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.StructType:
			found = append(found, pkg.foreignFields(n.Fields)...)
			return false
		case *ast.InterfaceType:
			found = append(found, pkg.foreignFields(n.Methods)...)
			return false
		case *ast.SelectorExpr:
			p, ok := pkg.qualifier(n)
			first, _, _ := strings.Cut(p, "/")
			if ok && (p == "?" || strings.Contains(first, ".") && !layoutBelow(p, layoutModule)) {
				found = append(found, n)
			}
			return false
		}
		return true
	})
	return found
}

func (pkg *layoutPackage) foreignFields(fields *ast.FieldList) (found []*ast.SelectorExpr) {
	for _, f := range fields.List {
		if len(f.Names) == 0 || slices.ContainsFunc(f.Names, (*ast.Ident).IsExported) {
			found = append(found, pkg.foreignTypes(f.Type)...)
		}
	}
	return found
}

// checkSleep finds time.Sleep, in tests too: there it is a guess of how long something takes. In a synctest bubble
// it is exact, so files that import testing/synctest may.
func (tree *layoutTree) checkSleep() (bad []string) {
	for _, pkg := range tree.packages {
		for _, f := range pkg.files {
			imports := f.imports()
			if _, bubble := imports["testing/synctest"]; bubble || imports["time"] == token.NoPos {
				continue
			}
			ast.Inspect(f.syntax, func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectorExpr); ok && types.ExprString(sel) == "time.Sleep" {
					bad = append(bad, fmt.Sprintf("%s: uses time.Sleep: a test waits for the event itself, or runs in testing/synctest; "+
						"other code selects on a timer and its context", tree.at(sel.Pos())))
				}
				return true
			})
		}
	}
	return bad
}

// checkNames finds package names that say nothing, and Go files directly in net.
func (tree *layoutTree) checkNames() (bad []string) {
	for _, pkg := range tree.packages {
		if slices.Contains(layoutEmptyNames, path.Base(pkg.dir)) {
			bad = append(bad, fmt.Sprintf("%s: the name does not say what the package holds: name it for that, or move each part beside its one user", pkg.dir))
		}
		if pkg.dir == "net" {
			bad = append(bad, "net: has Go files of its own, and would hide the standard library's net: move them into a package below")
		}
	}
	return bad
}

// checkTop finds what does not belong at the top of the repository.
func (tree *layoutTree) checkTop() (bad []string) {
	seen := map[string]bool{}
	for _, p := range tree.paths {
		top, _, _ := strings.Cut(p, "/")
		if seen[top] || strings.HasPrefix(top, ".") || layoutTop[top] != "" {
			continue
		}
		seen[top] = true
		bad = append(bad, fmt.Sprintf("%s: does not belong at the top of the repository, where only these do: %s, and names that begin with a dot",
			top, strings.Join(slices.Sorted(maps.Keys(layoutTop)), ", ")))
	}
	return bad
}

// The marks are put together here so that this file does not find itself.
var (
	layoutLeftover    = regexp.MustCompile(`\b(` + "TO" + "DO|FIX" + "ME|X" + "XX" + `)\b`)
	layoutMachinePath = regexp.MustCompile(`(^|[^\w./-])(/(home|Users)/([a-z][\w.-]*)/|` + "/ro" + `ot/|[A-Z]:\\Users\\)`)
	layoutGenerated   = []string{"go.sum", "package-lock.json"} // hashes may spell anything
	layoutSomebody    = []string{"you", "user", "alice", "bob", "anabranch"}
)

// checkLeftovers finds work put off.
func (tree *layoutTree) checkLeftovers() []string {
	return tree.eachLine(func(p string, line []byte) string {
		if slices.Contains(layoutGenerated, path.Base(p)) || slices.Contains(strings.Split(p, "/"), "testdata") {
			return ""
		}
		if m := layoutLeftover.Find(line); m != nil {
			return fmt.Sprintf("has %s: do it, or write in docs/ what is missing and why it can wait", m)
		}
		return ""
	})
}

// checkMachinePaths finds paths of somebody's machine.
func (tree *layoutTree) checkMachinePaths() []string {
	return tree.eachLine(func(_ string, line []byte) string {
		m := layoutMachinePath.FindSubmatch(line)
		if m == nil || len(m[4]) == 1 || slices.Contains(layoutSomebody, string(m[4])) {
			return ""
		}
		return fmt.Sprintf("has %s, a path of one machine: use a relative path, t.TempDir, or a made-up user (one letter, or %s)", m[2], strings.Join(layoutSomebody, ", "))
	})
}

// eachLine calls check for each line of text and reports what it says. Fuzz corpora hold what a fuzzer made up.
func (tree *layoutTree) eachLine(check func(p string, line []byte) string) (bad []string) {
	for _, p := range tree.paths {
		if strings.Contains(p, "testdata/fuzz/") {
			continue
		}
		n := 0
		for line := range bytes.Lines(tree.text(p)) {
			n++
			if what := check(p, line); what != "" {
				bad = append(bad, fmt.Sprintf("%s:%d: %s", p, n, what))
			}
		}
	}
	return bad
}

// eachImport visits the imports of a package, tests left out, in order.
func (tree *layoutTree) eachImport(pkg *layoutPackage, visit func(p string, pos token.Pos)) {
	for _, f := range pkg.files {
		imports := f.imports()
		for _, p := range slices.Sorted(maps.Keys(imports)) {
			if !f.test {
				visit(p, imports[p])
			}
		}
	}
}

// eachNode visits the syntax of a package, tests left out.
func (tree *layoutTree) eachNode(pkg *layoutPackage, visit func(ast.Node)) {
	for _, f := range pkg.files {
		if f.test {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if n != nil {
				visit(n)
			}
			return true
		})
	}
}
