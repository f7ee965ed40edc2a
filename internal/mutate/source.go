//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A target is the package whose tests are measured, parsed and with its types.
type target struct {
	directory  string
	path, name string
	files      []*source
	tests      []string // the names of its test files
	set        *token.FileSet
	types      *types.Package
	info       *types.Info
	imports    types.Importer
	functions  []*function
	statements int // how many stand in lists
}

// A source is a file of the package that is compiled here.
type source struct {
	name, path, text string
	syntax           *ast.File
	places           []place
}

// A place is a statement of a list, by its offsets. Its number is unique in the package.
type place struct{ from, to, number int }

// A function is one whose body is changed.
type function struct {
	file *source
	decl *ast.FuncDecl
	key  string // its name, with its receiver
	text string
}

// load reads a package. Types of what it imports come from the compiler's export data.
func load(directory string) (*target, error) {
	directory, err := filepath.Abs(directory)
	if err != nil {
		return nil, err
	}
	list := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Name,Dir,Export,GoFiles,TestGoFiles,XTestGoFiles,DepOnly", ".",
		"os", "strconv") // which a shared build needs
	list.Dir = directory
	list.Stderr = os.Stderr
	listed, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	t := &target{directory: directory, set: token.NewFileSet()}
	exports := map[string]string{}
	var names []string
	for decoder := json.NewDecoder(bytes.NewReader(listed)); ; {
		var p struct {
			ImportPath, Name, Dir, Export      string
			GoFiles, TestGoFiles, XTestGoFiles []string
			DepOnly                            bool
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		exports[p.ImportPath] = p.Export
		if p.Dir == directory {
			t.path, t.name, names = p.ImportPath, p.Name, p.GoFiles
			t.tests = slices.Concat(p.TestGoFiles, p.XTestGoFiles)
		}
	}
	t.imports = importer.ForCompiler(t.set, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(directory, name))
		if err != nil {
			return nil, err
		}
		s := &source{name: name, path: filepath.Join(directory, name), text: string(text)}
		if s.syntax, err = parser.ParseFile(t.set, s.path, text, parser.ParseComments|parser.SkipObjectResolution); err != nil {
			return nil, err
		}
		t.files = append(t.files, s)
	}
	return t, t.understand()
}

// understand finds the types, the functions and the statements.
func (t *target) understand() (err error) {
	t.info = &types.Info{
		Types: map[ast.Expr]types.TypeAndValue{}, Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{},
	}
	var syntax []*ast.File
	for _, s := range t.files {
		syntax = append(syntax, s.syntax)
	}
	config := types.Config{Importer: t.imports}
	if t.types, err = config.Check(t.path, t.set, syntax, t.info); err != nil {
		return err
	}
	for _, s := range t.files {
		for _, d := range s.syntax.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
				t.functions = append(t.functions, &function{s, f, t.keyOf(s, f), t.textOf(s, f)})
			}
		}
		for _, list := range lists(s.syntax) {
			for _, statement := range list {
				t.statements++
				s.places = append(s.places, place{t.offset(statement.Pos()), t.offset(statement.End()), t.statements})
			}
		}
		slices.SortFunc(s.places, func(a, b place) int { return a.from - b.from })
	}
	return nil
}

// lists are the lists of statements below a node.
func lists(n ast.Node) (all [][]ast.Stmt) {
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SwitchStmt: // what stands in its body are clauses
			return true
		case *ast.BlockStmt:
			if len(n.List) > 0 {
				switch n.List[0].(type) {
				case *ast.CaseClause, *ast.CommClause:
					return true
				}
			}
			all = append(all, n.List)
		case *ast.CaseClause:
			all = append(all, n.Body)
		case *ast.CommClause:
			all = append(all, n.Body)
		}
		return true
	})
	return all
}

// placeOf is the number of the innermost statement of a list at an offset.
func (s *source) placeOf(offset int) (number int) {
	for _, p := range s.places {
		if p.from <= offset && offset < p.to {
			number = p.number
		}
	}
	return number
}

func (t *target) offset(at token.Pos) int { return t.set.Position(at).Offset }

func (t *target) line(s *source, offset int) int { return 1 + strings.Count(s.text[:offset], "\n") }

func (t *target) textOf(s *source, n ast.Node) string {
	return s.text[t.offset(n.Pos()):t.offset(n.End())]
}

func (t *target) keyOf(s *source, f *ast.FuncDecl) string {
	if f.Recv == nil {
		return f.Name.Name
	}
	receiver := t.textOf(s, f.Recv.List[0].Type)
	if strings.HasPrefix(receiver, "*") {
		receiver = "(" + receiver + ")"
	}
	return receiver + "." + f.Name.Name
}

// whyNoCopy says why a function does not do the same when another calls it in its
// place, or "".
func whyNoCopy(f *ast.FuncDecl) string {
	switch {
	case f.Type.TypeParams != nil:
		return "generic"
	case f.Recv == nil && (f.Name.Name == "init" || f.Name.Name == "main"):
		return "called by the runtime"
	}
	if f.Recv != nil {
		receiver := f.Recv.List[0].Type
		if pointer, ok := receiver.(*ast.StarExpr); ok {
			receiver = pointer.X
		}
		if _, plain := receiver.(*ast.Ident); !plain {
			return "generic"
		}
	}
	why := ""
	ast.Inspect(f.Body, func(n ast.Node) bool {
		if _, ok := n.(*ast.FuncLit); ok {
			return false // a recover there belongs to the literal
		}
		if name, ok := n.(*ast.Ident); ok && name.Name == "recover" {
			why = "recovers"
		}
		return true
	})
	return why
}
