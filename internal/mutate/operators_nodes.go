//go:build linux

package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"strconv"
)

// others are what stands in the place of an operator.
var others = map[token.Token][]token.Token{
	token.LSS: {token.LEQ, token.GEQ}, token.LEQ: {token.LSS, token.GTR},
	token.GTR: {token.GEQ, token.LEQ}, token.GEQ: {token.GTR, token.LSS},
	token.EQL: {token.NEQ}, token.NEQ: {token.EQL},
	token.ADD: {token.SUB}, token.SUB: {token.ADD}, token.MUL: {token.QUO}, token.QUO: {token.MUL}, token.REM: {token.QUO},
	token.AND: {token.OR}, token.OR: {token.AND}, token.XOR: {token.AND}, token.AND_NOT: {token.AND},
	token.SHL: {token.SHR}, token.SHR: {token.SHL},
	token.LAND: {token.LOR}, token.LOR: {token.LAND},
	token.ADD_ASSIGN: {token.SUB_ASSIGN}, token.SUB_ASSIGN: {token.ADD_ASSIGN}, token.MUL_ASSIGN: {token.QUO_ASSIGN},
	token.OR_ASSIGN: {token.AND_ASSIGN}, token.AND_ASSIGN: {token.OR_ASSIGN}, token.SHL_ASSIGN: {token.SHR_ASSIGN},
	token.SHR_ASSIGN: {token.SHL_ASSIGN}, token.AND_NOT_ASSIGN: {token.AND_ASSIGN},
	token.INC: {token.DEC}, token.DEC: {token.INC},
	token.BREAK: {token.CONTINUE}, token.CONTINUE: {token.BREAK},
}

// otherwise plants each other operator. what is what the operator is part of.
func (m *maker) otherwise(what ast.Node, at token.Pos, operator token.Token) {
	from := m.offset(at)
	for _, other := range others[operator] {
		m.plantAll(fmt.Sprintf("%s -> %s: %s", operator, other, oneLine(m.text(what))), edit{from, from + len(operator.String()), other.String()})
	}
}

// indifferentIn are the constants of a function that may well have another value: how many
// units a time is, how much room a new slice or map has, and what is negative beside an error.
// Such a mutant costs a run of all tests, and says nothing.
func (m *maker) indifferentIn(body *ast.BlockStmt) map[ast.Node]bool {
	all := map[ast.Node]bool{}
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			if of, _ := m.typeOf(n); n.Op == token.MUL && of != nil && of.String() == "time.Duration" {
				all[n.X], all[n.Y] = true, true
			}
		case *ast.CallExpr:
			if id, ok := n.Fun.(*ast.Ident); ok && id.Name == "make" && len(n.Args) > 1 {
				_, isSlice := underlying(m.typeOf(n.Args[0])).(*types.Slice)
				_, isMap := underlying(m.typeOf(n.Args[0])).(*types.Map)
				if isMap || isSlice && len(n.Args) == 3 {
					all[n.Args[len(n.Args)-1]] = true
				}
			}
		case *ast.ReturnStmt:
			last := len(n.Results) - 1
			if last < 1 || m.text(n.Results[last]) == "nil" {
				return true
			}
			if of, _ := m.typeOf(n.Results[last]); !m.isError(of) {
				return true
			}
			for _, result := range n.Results[:last] {
				if negative, ok := result.(*ast.UnaryExpr); ok && negative.Op == token.SUB {
					all[negative.X] = true
				}
			}
		}
		return true
	})
	return all
}

func underlying(of types.Type, _ bool) types.Type {
	if of == nil {
		return nil
	}
	return of.Underlying()
}

// node plants what is wrong in one node.
func (m *maker) node(n ast.Node) {
	switch n := n.(type) {
	case *ast.IfStmt:
		m.negate(n.Cond)
	case *ast.ForStmt:
		if n.Cond != nil {
			m.negate(n.Cond)
		}
	case *ast.SwitchStmt:
		if n.Tag == nil {
			for _, clause := range n.Body.List {
				for _, condition := range clause.(*ast.CaseClause).List {
					m.negate(condition)
				}
			}
		}
	case *ast.BinaryExpr:
		m.binary(n)
	case *ast.AssignStmt:
		if of, _ := m.typeOf(n.Lhs[0]); n.Tok != token.ASSIGN && n.Tok != token.DEFINE && !isString(of) {
			m.otherwise(n, n.TokPos, n.Tok)
		}
	case *ast.IncDecStmt:
		m.otherwise(n, n.TokPos, n.Tok)
	case *ast.BranchStmt:
		m.otherwise(n, n.TokPos, n.Tok)
	case *ast.BasicLit:
		if value, err := strconv.ParseInt(n.Value, 0, 64); n.Kind == token.INT && err == nil && !m.indifferent[n] {
			m.replace(n, strconv.FormatInt(value+1, 10))
			m.replace(n, strconv.FormatInt(value-1, 10))
		}
	case *ast.Ident:
		m.name(n)
	case *ast.DeferStmt:
		m.plantAll("at once: "+oneLine(m.text(n)), edit{m.offset(n.Defer), m.offset(n.Call.Pos()), ""})
	case *ast.ReturnStmt:
		for _, result := range n.Results {
			if of, _ := m.typeOf(result); m.isError(of) {
				m.plant("error dropped: "+oneLine(m.text(n)), result, "nil")
			}
		}
	case *ast.ExprStmt:
		m.atomicAdd(n)
	case *ast.CallExpr:
		m.compareAndSwap(n)
	}
}

// negate plants the opposite of a condition, if no other operator is that.
func (m *maker) negate(condition ast.Expr) {
	if comparison, ok := condition.(*ast.BinaryExpr); ok && comparison.Op != token.LAND && comparison.Op != token.LOR {
		return
	}
	m.plant("negated: "+oneLine(m.text(condition)), condition, "!("+m.text(condition)+")")
}

func (m *maker) binary(n *ast.BinaryExpr) {
	if of, _ := m.typeOf(n); isString(of) {
		return
	}
	m.otherwise(n, n.OpPos, n.Op)
	if n.Op == token.LAND || n.Op == token.LOR {
		m.replace(n, m.text(n.X))
		m.replace(n, m.text(n.Y))
	}
}

// name plants what is wrong where a constant stands.
func (m *maker) name(n *ast.Ident) {
	c, ok := m.info.Uses[n].(*types.Const)
	if !ok {
		return
	}
	basic, isBasic := c.Type().Underlying().(*types.Basic)
	switch {
	case c.Parent() == types.Universe && n.Name == "true":
		m.replace(n, "false")
	case c.Parent() == types.Universe && n.Name == "false":
		m.replace(n, "true")
	case c.Pkg() == m.types && isBasic && basic.Info()&types.IsInteger != 0:
		m.replace(n, "("+n.Name+" + 1)")
	}
}

// compareAndSwap plants that nothing is compared.
func (m *maker) compareAndSwap(n *ast.CallExpr) {
	selector, ok := n.Fun.(*ast.SelectorExpr)
	if ok && selector.Sel.Name == "CompareAndSwap" && len(n.Args) == 2 {
		m.plant("not compared: "+oneLine(m.text(n)), n,
			fmt.Sprintf("func() bool { %s.Store(%s); return true }()", m.text(selector.X), m.text(n.Args[1])))
	}
}

// atomicAdd plants that others can store between the load and the store.
func (m *maker) atomicAdd(n *ast.ExprStmt) {
	call, ok := n.X.(*ast.CallExpr)
	if !ok || len(call.Args) != 1 {
		return
	}
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || selector.Sel.Name != "Add" {
		return
	}
	word := m.text(selector.X)
	m.plant("in two steps: "+oneLine(m.text(n)), n, fmt.Sprintf("%s.Store(%s.Load() + (%s))", word, word, m.text(call.Args[0])))
}

func isString(t types.Type) bool {
	if t == nil {
		return false
	}
	basic, ok := t.Underlying().(*types.Basic)
	return ok && basic.Info()&types.IsString != 0
}

var errorType = types.Universe.Lookup("error").Type()

func (m *maker) isError(t types.Type) bool {
	if t == nil || t == types.Typ[types.UntypedNil] {
		return false
	}
	return types.Implements(t, errorType.Underlying().(*types.Interface))
}
