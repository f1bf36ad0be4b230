package crdt_test

import (
	"bytes"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// layoutTree is what the rules look at: every Go package of the repository, parsed, and the names of all its files.
type layoutTree struct {
	fsys     fs.FS
	fset     *token.FileSet
	packages []*layoutPackage // sorted by directory
	paths    []string         // all files that are part of the repository, sorted; nil if that is not known
}

type layoutPackage struct {
	dir   string // from the root, with slashes
	files []*layoutFile
	info  *types.Info // what each identifier of the files that are no tests refers to
}

type layoutFile struct {
	path   string
	syntax *ast.File
	test   bool // its name ends in _test.go
}

var layoutOnce = sync.OnceValues(func() (*layoutTree, error) {
	root, err := layoutRoot()
	if err != nil {
		return nil, err
	}
	return readLayout(os.DirFS(root))
})

func loadLayout(t *testing.T) *layoutTree {
	t.Helper()
	tree, err := layoutOnce()
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// loadTracked is loadLayout for the rules about all files. It needs git to know which belong to the repository.
func loadTracked(t *testing.T) *layoutTree {
	t.Helper()
	tree := loadLayout(t)
	root, err := layoutRoot()
	if err != nil {
		t.Fatal(err)
	}
	// Files about to be added count too. The safe.directory setting is for checkouts that belong to another user.
	out, err := exec.CommandContext(t.Context(), "git", "-c", "safe.directory=*", "-C", root,
		"ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("list the files of %s with git: %v", root, err)
		}
		t.Skipf("not a git checkout, so what belongs to the repository is not known: %v", err)
	}
	with := *tree
	for _, p := range strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if _, err := fs.Stat(tree.fsys, p); err == nil { // git also lists files just deleted
			with.paths = append(with.paths, p)
		}
	}
	slices.Sort(with.paths)
	return &with
}

// layoutRoot returns the directory of go.mod.
func layoutRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}

// readLayout parses every Go file below fsys, except where the go command does not look either.
func readLayout(fsys fs.FS) (*layoutTree, error) {
	tree := &layoutTree{fsys: fsys, fset: token.NewFileSet()}
	byDir := map[string]*layoutPackage{}
	err := fs.WalkDir(fsys, ".", func(p string, e fs.DirEntry, err error) error {
		switch name := e.Name(); {
		case err != nil:
			return err
		case e.IsDir() && p != "." && (name[0] == '.' || name[0] == '_' || name == "testdata" || name == "node_modules"):
			return fs.SkipDir
		case e.IsDir() || path.Ext(name) != ".go":
			return nil
		}
		src, err := fs.ReadFile(fsys, p)
		if err != nil {
			return err
		}
		// A file that does not parse is the compiler's to report; look at what there is.
		syntax, _ := parser.ParseFile(tree.fset, p, src, parser.ParseComments|parser.SkipObjectResolution)
		if syntax == nil {
			return nil
		}
		dir := path.Dir(p)
		if byDir[dir] == nil {
			byDir[dir] = &layoutPackage{dir: dir}
			tree.packages = append(tree.packages, byDir[dir])
		}
		byDir[dir].files = append(byDir[dir].files, &layoutFile{p, syntax, strings.HasSuffix(p, "_test.go")})
		return nil
	})
	for _, pkg := range tree.packages {
		pkg.resolve(tree.fset)
	}
	slices.SortFunc(tree.packages, func(a, b *layoutPackage) int { return strings.Compare(a.dir, b.dir) })
	return tree, err
}

// resolve finds out what the identifiers refer to. Imported packages are stand-ins without content, so that nothing
// has to be loaded; the type errors that follow from this are ignored.
func (pkg *layoutPackage) resolve(fset *token.FileSet) {
	pkg.info = &types.Info{Uses: map[*ast.Ident]types.Object{}}
	var files []*ast.File
	for _, f := range pkg.files {
		if !f.test {
			files = append(files, f.syntax)
		}
	}
	conf := types.Config{Importer: layoutStandIn{}, FakeImportC: true, Error: func(error) {}}
	_, _ = conf.Check(pkg.importPath(), fset, files, pkg.info) // see above
}

type layoutStandIn struct{}

var _ types.Importer = layoutStandIn{}

// Import names the package after the last element of its path. That is right for the standard library and for this
// module. Where it is wrong, a use of the package stays unresolved, and qualifier says so.
func (layoutStandIn) Import(p string) (*types.Package, error) {
	name := path.Base(p)
	if len(name) > 1 && name[0] == 'v' && name[1] >= '2' && name[1] <= '9' {
		name = path.Base(path.Dir(p))
	}
	stand := types.NewPackage(p, name)
	stand.MarkComplete()
	return stand, nil
}

func (pkg *layoutPackage) importPath() string { return path.Join(layoutModule, pkg.dir) }

// isTestSupport reports whether the package is for tests of other packages.
func (pkg *layoutPackage) isTestSupport() bool { return layoutBelow(pkg.dir, layoutTestSupport...) }

// qualifier returns the path of the package that sel is an identifier of. It returns ok false if sel selects from a
// value, and the path "?" if it selects from a package whose name does not follow from its path.
func (pkg *layoutPackage) qualifier(sel *ast.SelectorExpr) (p string, ok bool) {
	x, ok := sel.X.(*ast.Ident)
	if !ok {
		return "", false
	}
	switch use := pkg.info.Uses[x].(type) {
	case nil:
		return pkg.imported(x), true
	case *types.PkgName:
		return use.Imported().Path(), true
	}
	return "", false
}

// imported returns the path of the package that x names by an import of its file, for where the type checker does not get to: between the brackets
// of a generic type of another package. It returns "?" if the name does not follow from a path.
func (pkg *layoutPackage) imported(x *ast.Ident) string {
	for _, f := range pkg.files {
		if x.Pos() < f.syntax.FileStart || x.Pos() >= f.syntax.FileEnd {
			continue
		}
		for p := range f.imports() {
			if path.Base(p) == x.Name {
				return p
			}
		}
	}
	return "?"
}

// imports returns the paths that f imports, each with its place.
func (f *layoutFile) imports() map[string]token.Pos {
	m := map[string]token.Pos{}
	for _, spec := range f.syntax.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			m[p] = spec.Pos()
		}
	}
	return m
}

// at returns pos as path:line.
func (tree *layoutTree) at(pos token.Pos) string {
	p := tree.fset.Position(pos)
	return p.Filename + ":" + strconv.Itoa(p.Line)
}

// text returns the content of a file, or nil if it is binary or too large for anybody to have written it.
func (tree *layoutTree) text(p string) []byte {
	const most = 1 << 20
	if info, err := fs.Stat(tree.fsys, p); err != nil || !info.Mode().IsRegular() || info.Size() > most {
		return nil
	}
	b, err := fs.ReadFile(tree.fsys, p)
	if err != nil || bytes.IndexByte(b, 0) >= 0 {
		return nil
	}
	return b
}

// layoutBelow reports whether p is one of the directories or lies below one.
func layoutBelow(p string, dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return p == d || strings.HasPrefix(p, d+"/") })
}
