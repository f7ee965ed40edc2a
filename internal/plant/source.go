package plant

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"slices"
	"strings"
)

// A source is a file that bugs are planted in.
type source struct {
	code
	splices map[int]splice      // by where they begin; those of one place are one
	begins  map[string][]string // what a function begins with, by its key
	imports map[string]bool     // that bugs need
	copies  strings.Builder     // of functions, behind everything else
}

// A splice is a text in the place of another.
type splice struct {
	end  int
	text string
}

// A code is a parsed text.
type code struct {
	content string
	file    *ast.File
	set     *token.FileSet
}

// A function is one that a bug changes.
type function struct {
	key     string
	changed *ast.FuncDecl
	of      code // of the bug
	imports []string
}

func parse(name string) (*source, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	c, err := parseText(name, string(content))
	if err != nil {
		return nil, err
	}
	return &source{code: c, splices: map[int]splice{}, begins: map[string][]string{}, imports: map[string]bool{}}, nil
}

func parseText(name, text string) (code, error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, text, parser.ParseComments|parser.SkipObjectResolution)
	return code{text, file, set}, err
}

func (c code) offset(at token.Pos) int { return c.set.Position(at).Offset }

func (c code) slice(from, to token.Pos) string { return c.content[c.offset(from):c.offset(to)] }

func (c code) textOf(n ast.Node) string { return c.slice(n.Pos(), n.End()) }

// functions are the functions of a file by their keys, and rest is every other
// declaration but imports.
func (c code) functions() (all map[string]*ast.FuncDecl, imports []string, rest string) {
	all = map[string]*ast.FuncDecl{}
	for _, d := range c.file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			all[c.key(d)] = d
		case *ast.GenDecl:
			if d.Tok != token.IMPORT {
				rest += c.textOf(d) + "\n"
			}
		}
	}
	for _, i := range c.file.Imports {
		imports = append(imports, c.textOf(i))
	}
	return all, imports, rest
}

func (c code) key(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return f.Name.Name
	}
	return c.textOf(f.Recv.List[0].Type) + "." + f.Name.Name
}

// differences are the functions that another text of the same file has changed. It
// does not fit if there is more that is changed than the bodies of functions that can
// have a copy.
func (s *source) differences(text string) (changed []function, fits bool, err error) {
	other, err := parseText(s.file.Name.Name, text)
	if err != nil {
		return nil, false, err
	}
	ours, _, rest := s.functions()
	theirs, imports, otherRest := other.functions()
	if rest != otherRest || len(ours) != len(theirs) {
		return nil, false, nil
	}
	for _, key := range slices.Sorted(maps.Keys(theirs)) {
		before, after := ours[key], theirs[key]
		switch {
		case before == nil:
			return nil, false, nil
		case s.textOf(before) == other.textOf(after):
			continue
		case !canHaveACopy(after) || s.slice(before.Pos(), before.Body.Pos()) != other.slice(after.Pos(), after.Body.Pos()):
			return nil, false, nil
		}
		changed = append(changed, function{key, after, other, imports})
	}
	return changed, len(changed) > 0, nil
}

// canHaveACopy reports whether a function does the same when another calls it in its
// place. A recover would find nothing there.
func canHaveACopy(f *ast.FuncDecl) bool {
	if f.Body == nil || f.Type.TypeParams != nil || f.Name.Name == "init" || f.Name.Name == "main" {
		return false
	}
	if f.Recv != nil {
		t := f.Recv.List[0].Type
		if pointer, ok := t.(*ast.StarExpr); ok {
			t = pointer.X
		}
		if _, plain := t.(*ast.Ident); !plain {
			return false
		}
	}
	can := true
	ast.Inspect(f.Body, func(n ast.Node) bool {
		if name, ok := n.(*ast.Ident); ok && name.Name == "recover" {
			can = false
		}
		return can
	})
	return can
}

// plant adds the copy of a function that has the bug of a number.
func (s *source) plant(f function, number int) {
	ours, known, _ := s.functions()
	own := ours[f.key]
	name := fmt.Sprintf("%sPlanted%d", own.Name.Name, number)
	for _, i := range f.imports {
		if !slices.Contains(known, i) {
			s.imports[i] = true
		}
	}
	call := name
	if own.Recv != nil {
		call = s.named(own.Recv, "receiver")[0] + "." + name
	}
	call += "(" + strings.Join(s.named(own.Type.Params, "argument"), ", ") + ")"
	if own.Type.Results.NumFields() > 0 {
		call = "return " + call
	} else {
		call += "; return"
	}
	s.begins[f.key] = append(s.begins[f.key], fmt.Sprintf(" if plantedBug == %d { %s };", number, call))
	at := s.offset(own.Body.Lbrace) + 1
	s.splices[at] = splice{at, strings.Join(s.begins[f.key], "")}
	if f.changed.Doc != nil {
		for _, c := range f.changed.Doc.List {
			if strings.HasPrefix(c.Text, "//go:") {
				s.copies.WriteString("\n" + c.Text)
			}
		}
	}
	text := f.of.slice(f.changed.Pos(), f.changed.Name.Pos()) + name + f.of.slice(f.changed.Name.End(), f.changed.End())
	s.copies.WriteString("\n" + text + "\n")
}

// named returns the names of a list of parameters as arguments of a call, and gives a
// name to those that have none.
func (s *source) named(list *ast.FieldList, prefix string) (names []string) {
	for _, field := range list.List {
		after := ""
		if _, variadic := field.Type.(*ast.Ellipsis); variadic {
			after = "..."
		}
		if len(field.Names) == 0 {
			name := fmt.Sprintf("%s%d", prefix, len(names))
			at := s.offset(field.Pos())
			s.splices[at] = splice{at, name + " "}
			names = append(names, name+after)
		}
		for _, n := range field.Names {
			name := n.Name
			if name == "_" {
				name = fmt.Sprintf("%s%d", prefix, len(names))
				s.splices[s.offset(n.Pos())] = splice{s.offset(n.End()), name}
			}
			names = append(names, name+after)
		}
	}
	return names
}

// text is the file with what was planted in it.
func (s *source) text() string {
	var imports strings.Builder
	for _, i := range slices.Sorted(maps.Keys(s.imports)) {
		imports.WriteString("; import " + i)
	}
	at := s.offset(s.file.Name.End())
	s.splices[at] = splice{at, imports.String()}
	type placed struct {
		begin int
		splice
	}
	var all []placed
	for begin, sp := range s.splices {
		all = append(all, placed{begin, sp})
	}
	slices.SortFunc(all, func(a, b placed) int { return cmp.Compare(a.begin, b.begin) })
	var out strings.Builder
	done := 0
	for _, p := range all {
		out.WriteString(s.content[done:p.begin] + p.text)
		done = p.end
	}
	out.WriteString(s.content[done:])
	out.WriteString(s.copies.String())
	return out.String()
}
