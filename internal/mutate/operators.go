//go:build linux

package main

import (
	"go/ast"
	"go/token"
	"go/types"
	"regexp"
	"slices"
	"strings"
)

// An edit replaces what stands between two offsets of a file.
type edit struct {
	from, to int
	text     string
}

// A maker makes the mutants of one function.
type maker struct {
	*target
	of  *function
	all []*mutant

	indifferent map[ast.Node]bool
}

// mutantsOf are all mutants of a function, in the order of their places.
func (t *target) mutantsOf(f *function) []*mutant {
	m := &maker{target: t, of: f}
	m.indifferent = m.indifferentIn(f.decl.Body)
	for _, list := range lists(f.decl.Body) {
		for i, statement := range list {
			m.leaveOut(statement)
			if i > 0 {
				m.swap(list[i-1], statement)
			}
		}
	}
	m.locks()
	ast.Inspect(f.decl.Body, func(n ast.Node) bool { m.node(n); return true })
	slices.SortStableFunc(m.all, func(a, b *mutant) int { return a.edits[0].from - b.edits[0].from })
	seen := map[string]int{}
	for _, mutant := range m.all {
		mutant.nth = seen[mutant.what]
		seen[mutant.what]++
	}
	return m.all
}

// plant adds a mutant that does one edit: what is how it is called.
func (m *maker) plant(what string, n ast.Node, text string) {
	m.plantAll(what, edit{m.offset(n.Pos()), m.offset(n.End()), text})
}

func (m *maker) plantAll(what string, edits ...edit) {
	m.all = append(m.all, &mutant{of: m.of, edits: edits, what: what, place: m.of.file.placeOf(edits[0].from)})
}

// replace adds a mutant that is called by what it puts in the place of what.
func (m *maker) replace(n ast.Node, text string) {
	m.plant(oneLine(m.text(n))+" -> "+oneLine(text), n, text)
}

func (m *maker) text(n ast.Node) string { return m.textOf(m.of.file, n) }

var comment = regexp.MustCompile(`(?m)(^|\s)//.*$`)

// oneLine is a text as a name, which stays the same when it is indented or explained
// otherwise.
func oneLine(text string) string {
	text = comment.ReplaceAllString(text, "")
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 80 {
		text = text[:80] + "..."
	}
	return text
}

// leaveOut plants that a statement is missing. What it used stays used.
func (m *maker) leaveOut(statement ast.Stmt) {
	switch s := statement.(type) {
	case *ast.ExprStmt, *ast.IncDecStmt, *ast.SendStmt, *ast.GoStmt, *ast.DeferStmt:
	case *ast.AssignStmt:
		if s.Tok == token.DEFINE || !slices.ContainsFunc(s.Lhs, func(e ast.Expr) bool { return m.text(e) != "_" }) {
			return
		}
	case *ast.IfStmt:
		if s.Else != nil {
			return
		}
	case *ast.ReturnStmt:
		if len(s.Results) > 0 {
			return
		}
	default:
		return
	}
	m.plant("left out: "+oneLine(m.text(statement)), statement, m.stillUsed(statement))
}

// stillUsed is a statement that uses what a statement uses and does not declare itself.
func (m *maker) stillUsed(n ast.Node) string {
	var names []string
	ast.Inspect(n, func(inner ast.Node) bool {
		id, ok := inner.(*ast.Ident)
		if !ok {
			return true
		}
		v, ok := m.info.Uses[id].(*types.Var)
		if ok && !v.IsField() && v.Parent() != m.types.Scope() && v.Pkg() == m.types &&
			(v.Pos() < n.Pos() || v.Pos() >= n.End()) && !slices.Contains(names, id.Name) {
			names = append(names, id.Name)
		}
		return true
	})
	if len(names) == 0 {
		return ""
	}
	return strings.Repeat("_, ", len(names)-1) + "_ = " + strings.Join(names, ", ")
}

// swap plants that two statements stand in the other order, where somebody may see it:
// one does something to others than local variables, and one calls.
func (m *maker) swap(first, second ast.Stmt) {
	movable := func(s ast.Stmt) bool {
		switch s.(type) {
		case *ast.ExprStmt, *ast.AssignStmt, *ast.IncDecStmt, *ast.SendStmt, *ast.GoStmt, *ast.DeferStmt, *ast.IfStmt:
			return true
		}
		return false
	}
	if !movable(first) || !movable(second) {
		return
	}
	aCalls, aStores := m.effects(first)
	bCalls, bStores := m.effects(second)
	if !(aCalls || bCalls) || !(aCalls || aStores) || !(bCalls || bStores) {
		return
	}
	between := m.of.file.text[m.offset(first.End()):m.offset(second.Pos())]
	a, b := m.text(first), m.text(second)
	m.plantAll("swapped: "+oneLine(a)+" | "+oneLine(b),
		edit{m.offset(first.Pos()), m.offset(second.End()), b + between + a})
}

// effects says whether a statement calls, sends or receives, and whether it stores to
// what is not a local variable.
func (m *maker) effects(s ast.Stmt) (calls, stores bool) {
	ast.Inspect(s, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			_, isType := m.typeOf(n.Fun)
			id, ok := n.Fun.(*ast.Ident)
			builtin := ok && types.Universe.Lookup(id.Name) == m.info.Uses[id]
			calls = calls || !isType && !builtin
		case *ast.SendStmt:
			calls = true
		case *ast.UnaryExpr:
			calls = calls || n.Op == token.ARROW
		case *ast.AssignStmt:
			for _, to := range n.Lhs {
				_, local := to.(*ast.Ident)
				stores = stores || !local
			}
		case *ast.IncDecStmt:
			_, local := n.X.(*ast.Ident)
			stores = stores || !local
		case *ast.FuncLit:
			return false
		}
		return true
	})
	return calls, stores
}

func (m *maker) typeOf(e ast.Expr) (of types.Type, isType bool) {
	tv := m.info.Types[e]
	return tv.Type, tv.IsType()
}

// locks plants that a lock is neither taken nor given back.
func (m *maker) locks() {
	type pair struct{ locks, unlocks []edit }
	pairs := map[string]*pair{}
	var names []string
	ast.Inspect(m.of.decl.Body, func(n ast.Node) bool {
		var call ast.Expr
		switch s := n.(type) {
		case *ast.ExprStmt:
			call = s.X
		case *ast.DeferStmt:
			call = s.Call
		}
		c, ok := call.(*ast.CallExpr)
		if !ok || len(c.Args) != 0 {
			return true
		}
		selector, ok := c.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		kind := strings.TrimSuffix(strings.TrimSuffix(selector.Sel.Name, "Lock"), "Unlock")
		if kind != "" && kind != "R" {
			return true
		}
		name := m.text(selector.X) + "." + kind + "Lock"
		if pairs[name] == nil {
			pairs[name] = &pair{}
			names = append(names, name)
		}
		out := edit{m.offset(n.Pos()), m.offset(n.End()), m.stillUsed(n)}
		if strings.HasSuffix(selector.Sel.Name, "Unlock") {
			pairs[name].unlocks = append(pairs[name].unlocks, out)
		} else {
			pairs[name].locks = append(pairs[name].locks, out)
		}
		return true
	})
	for _, name := range names {
		if p := pairs[name]; len(p.locks) > 0 && len(p.unlocks) > 0 {
			m.plantAll("without lock: "+name, slices.Concat(p.locks, p.unlocks)...)
		}
	}
}
