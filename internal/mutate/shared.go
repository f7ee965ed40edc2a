//go:build linux

package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"strings"
)

// Variables of the environment of a shared program.
const (
	awake   = "TANDEM_MUTANT"         // the number of the mutant that is awake
	reached = "TANDEM_MUTANT_REACHED" // a file with a byte for each statement: 1 once it was reached
)

// suffix is between the name of a function and the number of the mutant that a copy
// has. The copy of the number 0 has none: it tells what the code of a copy is then.
const suffix = "_mutant"

// shared returns the files of the package with mutants in it, asleep, by their absolute
// names. A function with mutants begins with the question whether one of its own is
// awake, and then calls its copy. Mutants of one function are neighbours.
func (t *target) shared(mutants []*mutant) (files map[string]string, copies []copied) {
	files = map[string]string{}
	of := map[*function][]*mutant{}
	for i, m := range mutants {
		m.number = i + 1
		of[m.of] = append(of[m.of], m)
	}
	for _, s := range t.files {
		var edits []edit
		var behind strings.Builder
		var own []copied
		for _, f := range t.functions {
			if f.file != s || of[f] == nil {
				continue
			}
			edits = append(edits, t.dispatch(f, of[f])...)
			for _, m := range append([]*mutant{{of: f}}, of[f]...) {
				from := behind.Len()
				behind.WriteString(t.copyOf(m))
				own = append(own, copied{s.path, from, behind.Len(), m})
			}
		}
		if edits == nil {
			continue
		}
		text := apply(s.text, 0, len(s.text), edits)
		for i := range own {
			own[i].from += len(text)
			own[i].to += len(text)
		}
		files[s.path] = text + behind.String()
		copies = append(copies, own...)
	}
	files[filepath.Join(t.directory, "mutants_awake.go")] = fmt.Sprintf(`package %s

import (
	"os"
	"strconv"
)

// mutantAwake is the number of the mutant that is awake; 0 if none is.
var mutantAwake = func() int { n, _ := strconv.Atoi(os.Getenv(%q)); return n }()
`, t.name, awake)
	return files, copies
}

// A copied is where a copy of a function stands in a file.
type copied struct {
	path     string
	from, to int
	mutant   *mutant
}

func (t *target) copyOf(m *mutant) string {
	f := m.of.decl
	var out strings.Builder
	out.WriteString("\n")
	if f.Doc != nil {
		for _, c := range f.Doc.List {
			if strings.HasPrefix(c.Text, "//go:") {
				out.WriteString(c.Text + "\n")
			}
		}
	}
	out.WriteString(m.of.file.text[t.offset(f.Pos()):t.offset(f.Name.End())])
	fmt.Fprintf(&out, "%s%d%s\n", suffix, m.number, m.body(t))
	return out.String()
}

// dispatch are the edits by which a function calls its copies.
func (t *target) dispatch(f *function, mutants []*mutant) (edits []edit) {
	call, edits := "", nil
	if f.decl.Recv != nil {
		names, named := t.named(f, f.decl.Recv, "receiver")
		call, edits = names[0]+".", named
	}
	arguments, named := t.named(f, f.decl.Type.Params, "argument")
	edits = append(edits, named...)
	first, last := mutants[0].number, mutants[len(mutants)-1].number
	var out strings.Builder
	fmt.Fprintf(&out, " if %d <= mutantAwake && mutantAwake <= %d { switch mutantAwake {", first, last)
	for _, m := range mutants {
		copied := fmt.Sprintf("%s%s%s%d(%s)", call, f.decl.Name.Name, suffix, m.number, strings.Join(arguments, ", "))
		if f.decl.Type.Results.NumFields() > 0 {
			fmt.Fprintf(&out, " case %d: return %s;", m.number, copied)
		} else {
			fmt.Fprintf(&out, " case %d: %s; return;", m.number, copied)
		}
	}
	out.WriteString(" } };")
	at := t.offset(f.decl.Body.Lbrace) + 1
	return append(edits, edit{at, at, out.String()})
}

// named returns parameters as arguments of a call, and gives a name to those that have
// none.
func (t *target) named(f *function, list *ast.FieldList, prefix string) (names []string, edits []edit) {
	for _, field := range list.List {
		after := ""
		if _, variadic := field.Type.(*ast.Ellipsis); variadic {
			after = "..."
		}
		if len(field.Names) == 0 {
			name := fmt.Sprintf("%s%d", prefix, len(names))
			at := t.offset(field.Pos())
			edits = append(edits, edit{at, at, name + " "})
			names = append(names, name+after)
		}
		for _, n := range field.Names {
			name := n.Name
			if name == "_" {
				name = fmt.Sprintf("%s%d", prefix, len(names))
				edits = append(edits, edit{t.offset(n.Pos()), t.offset(n.End()), name})
			}
			names = append(names, name+after)
		}
	}
	return names, edits
}

// compiles returns the mutants that the compiler takes.
func (t *target) compiles(mutants []*mutant) ([]*mutant, error) {
	for {
		files, copies := t.shared(mutants)
		set := token.NewFileSet()
		var syntax []*ast.File
		for _, s := range t.files {
			if _, changed := files[s.path]; !changed {
				files[s.path] = s.text
			}
		}
		for path, text := range files {
			f, err := parser.ParseFile(set, path, text, parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
			syntax = append(syntax, f)
		}
		wrong := map[*mutant]bool{}
		var elsewhere error
		config := types.Config{Importer: t.imports, Error: func(err error) {
			at := set.Position(err.(types.Error).Pos)
			for _, c := range copies {
				if c.path == at.Filename && c.from <= at.Offset && at.Offset < c.to && c.mutant.number > 0 {
					wrong[c.mutant] = true
					return
				}
			}
			elsewhere = err
		}}
		_, _ = config.Check(t.path, set, syntax, nil)
		if len(wrong) == 0 {
			return mutants, elsewhere
		}
		var left []*mutant
		for _, m := range mutants {
			if !wrong[m] {
				left = append(left, m)
			}
		}
		mutants = left
	}
}

// marked are the files of the package as they tell which statements are reached.
func (t *target) marked() map[string]string {
	files := map[string]string{}
	for _, s := range t.files {
		var edits []edit
		for _, p := range s.places {
			edits = append(edits, edit{p.from, p.from, fmt.Sprintf("mutantReached[%d] = 1; ", p.number)})
		}
		if edits != nil {
			files[s.path] = apply(s.text, 0, len(s.text), edits)
		}
	}
	files[filepath.Join(t.directory, "mutants_reached.go")] = fmt.Sprintf(`package %s

import (
	"os"
	"syscall"
)

// mutantReached is memory that a child process shares, also one that is killed.
var mutantReached = func() []byte {
	const size = %d
	f, err := os.OpenFile(os.Getenv(%q), os.O_RDWR, 0)
	if err != nil {
		return make([]byte, size)
	}
	defer f.Close()
	bytes, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	return bytes
}()
`, t.name, t.statements+1, reached)
	return files
}
