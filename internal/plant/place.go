package plant

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"go/types"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A word is a token of Go, without those that only say where a line ends.
type word struct {
	kind     token.Token
	text     string
	from, to int // of the source
}

// words are the tokens of a text, which may be a part of a file. Comments are none.
func words(text string) (all []word, err error) {
	file := token.NewFileSet().AddFile("", -1, len(text))
	var s scanner.Scanner
	s.Init(file, []byte(text), func(at token.Position, message string) {
		err = errors.Join(err, fmt.Errorf("%d:%d: %s", at.Line, at.Column, message))
	}, 0)
	for {
		pos, kind, literal := s.Scan()
		switch {
		case kind == token.EOF:
			return all, err
		case kind == token.SEMICOLON && literal == "\n":
			continue
		case literal == "":
			literal = kind.String()
		}
		from := file.Offset(pos)
		all = append(all, word{kind, literal, from, from + len(literal)})
	}
}

// A place is where a text stands in a file, and under which names.
type place struct {
	name     string // of the file
	from, to int
	renamed  map[string]string // what its identifiers are called there
}

// renaming is what the identifiers of wanted are called in found, if nothing else differs,
// only names that the package does not have any more, and not more than a third of the words.
func renaming(wanted, found []word, known map[string]bool) (renamed map[string]string, same bool) {
	others := 0
	renamed = map[string]string{}
	taken := map[string]string{} // the other way round
	for i, w := range wanted {
		f := found[i]
		if w.kind != f.kind || w.text != f.text && (w.kind != token.IDENT || known[w.text]) {
			return nil, false
		}
		if w.kind != token.IDENT {
			continue
		}
		if w.text != f.text {
			others++
		}
		if was, begun := taken[f.text]; begun && was != w.text {
			return nil, false
		}
		if is, begun := renamed[w.text]; begun && is != f.text {
			return nil, false
		}
		renamed[w.text], taken[f.text] = f.text, w.text
	}
	return renamed, others <= len(wanted)/3
}

// A ground is the text of a package, where places are looked for.
type ground struct {
	directory string
	changed   map[string]string // files, by their absolute names, that an earlier edit has changed
	renamed   map[string]string // what identifiers of the bug are called by now
	others    map[string]string // all files, read when the first is asked for
	known     map[string]bool   // every identifier
}

func (g *ground) text(name string) (string, error) {
	if text, begun := g.changed[name]; begun {
		return text, nil
	}
	text, err := os.ReadFile(name)
	return string(text), err
}

// read reads all files of the package but its tests.
func (g *ground) read() error {
	if g.others != nil {
		return nil
	}
	g.others, g.known = map[string]string{}, map[string]bool{}
	directory, err := filepath.Abs(g.directory)
	if err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(directory, "*.go"))
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		all, err := words(string(text))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, w := range all {
			g.known[w.text] = g.known[w.text] || w.kind == token.IDENT
		}
		g.others[name] = string(text)
	}
	return nil
}

// A sought text is what is looked for.
type sought struct {
	words []word
	in    string // the function, or TYPE.METHOD; "" is anywhere in a file
}

// within returns the part of a file where the text may stand.
func (s sought) within(name, text string) (from, to int, err error) {
	if s.in == "" || text == "" {
		return 0, len(text), nil
	}
	positions := token.NewFileSet()
	file, err := parser.ParseFile(positions, name, text, parser.SkipObjectResolution)
	if err != nil {
		return 0, 0, err
	}
	for _, decl := range file.Decls {
		f, is := decl.(*ast.FuncDecl)
		if !is || s.in != f.Name.Name && !strings.HasSuffix(receiverOf(f)+"."+f.Name.Name, "*"+s.in) {
			continue
		}
		if to > 0 {
			return 0, 0, fmt.Errorf("%s has several functions %s", name, s.in)
		}
		from, to = positions.Position(f.Pos()).Offset, positions.Position(f.End()).Offset
	}
	return from, to, nil
}

func receiverOf(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	return "*" + strings.TrimPrefix(types.ExprString(f.Recv.List[0].Type), "*")
}

// places are where a text stands in a file, under its own names or, if known is given,
// under others. likest is how many of the first words stand anywhere, and line where.
func places(name, text string, s sought, known map[string]bool) (all []place, likest, line int, err error) {
	from, to, err := s.within(name, text)
	if err != nil {
		return nil, 0, 0, err
	}
	found, err := words(text)
	if err != nil {
		return nil, 0, 0, fmt.Errorf("%s: %w", name, err)
	}
	found = slices.DeleteFunc(found, func(w word) bool { return w.from < from || w.to > to })
	wanted := s.words
	for at := range found {
		n := 0
		for n < len(wanted) && at+n < len(found) && wanted[n].kind == found[at+n].kind && wanted[n].text == found[at+n].text {
			n++
		}
		if n > likest {
			likest, line = n, 1+strings.Count(text[:found[at].from], "\n")
		}
		if at+len(wanted) > len(found) || n < len(wanted) && known == nil {
			continue
		}
		here := found[at : at+len(wanted)]
		if renamed, same := renaming(wanted, here, known); same {
			all = append(all, place{name, here[0].from, here[len(here)-1].to, renamed})
		}
	}
	return all, likest, line, nil
}

// find returns the place of an edit. It is in the edit's file, under the names that the edit
// has; or else under names that have taken the place of names which the package does not have
// any more, or in another file. It is the only one, or an error.
func (g *ground) find(e Edit) (place, error) {
	file, in, _ := strings.Cut(e.File, ":")
	wanted, err := words(e.Old)
	if err == nil && len(wanted) == 0 {
		err = errors.New("there is none in it")
	}
	if err != nil {
		return place{}, fmt.Errorf("%q is no text of Go to look for: %w", e.Old, err)
	}
	own, err := filepath.Abs(filepath.Join(g.directory, file))
	if err != nil {
		return place{}, err
	}
	text, err := g.text(own)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return place{}, err
	}
	found, likest, line, err := places(own, text, sought{wanted, in}, nil)
	if err == nil && len(found) == 0 {
		if err = g.read(); err == nil {
			found, err = g.moved(own, sought{wanted, in})
		}
	}
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("%s has the text %d times, want once:\n%s", e.File, len(found), e.Old)
		if len(found) == 0 && likest > 0 {
			err = fmt.Errorf("%w\nline %d begins like it, with %d of its %d words", err, line, likest, len(wanted))
		}
	}
	if err != nil {
		return place{}, err
	}
	maps.Copy(g.renamed, found[0].renamed)
	return found[0], nil
}

// moved looks where the words have gone: to other names in their file, or to another file.
func (g *ground) moved(own string, s sought) (found []place, err error) {
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(g.others)), func(name string) bool { return name == own })
	for _, tries := range [][]string{{own}, names} {
		for _, name := range tries {
			text, begun := g.changed[name]
			if !begun {
				text = g.others[name]
			}
			here, _, _, err := places(name, text, s, g.known)
			if err != nil {
				return nil, err
			}
			found = append(found, here...)
		}
		if len(found) > 0 {
			break
		}
	}
	return found, nil
}

// put returns the text with the edit done at the place.
func (g *ground) put(p place, text string, e Edit) (string, error) {
	planted, err := words(e.New)
	if err != nil {
		return "", fmt.Errorf("%q is no text of Go: %w", e.New, err)
	}
	var put strings.Builder
	put.WriteString(text[:p.from])
	at := 0
	for _, w := range planted {
		if is, renamed := g.renamed[w.text]; renamed && w.kind == token.IDENT {
			put.WriteString(e.New[at:w.from] + is)
			at = w.to
		}
	}
	put.WriteString(e.New[at:])
	put.WriteString(text[p.to:])
	return put.String(), nil
}
