package model

import (
	"fmt"
	"slices"
	"strings"
)

// text is the state in TLC's syntax.
func (m *lifecycle) text(x LifecycleState) string {
	var out strings.Builder
	variable := func(name string, value any) { fmt.Fprintf(&out, "/\\ %s = %v\n", name, value) }
	l := x.left
	variable("left", record("killS", l.killS, "killC", l.killC, "closeS", l.closeS, "closeC", l.closeC,
		"timeout", l.timeout, "expel", l.expel, "freeze", l.freeze, "delete", l.remove,
		"tdelete", l.removeToken, "copy", l.copies, "former", l.former))
	variable("lockPath", x.lockPath)
	inodes := 1 + m.Deletions
	variable("byte0", sequence(x.byte0[:inodes], process.String))
	variable("tokenPath", x.tokenPath)
	variable("token", sequence(x.token[:m.tokens], processSet.String))
	variable("byte1", sequence(x.byte1[:m.tokens], processSet.String))
	variable("kept", numbers(x.kept[:m.tokens]))
	variable("record", sequence(x.record[:inodes], func(r lockRecord) string {
		return record("gen", r.gen, "client", r.client)
	}))
	variable("path", x.path)
	variable("mem", sequence(x.mem[:m.MaxGen], func(r memory) string {
		return record("ino", r.ino, "gen", r.gen, "bye", r.bye, "cbye", r.cbye, "cin", r.cin)
	}))
	variable("made", x.made)
	variable("srv", function(m.servers, func(s process) any { return x.server(s) }))
	variable("cli", function(m.clients, func(c process) any { return x.client(c) }))
	variable("conn", sequence(x.conn[:m.MaxConn], lifeConn.String))
	variable("frozen", x.frozen)
	variable("silent", function(m.processes(), func(p process) any { return x.silent[p-1] }))
	variable("bad", x.bad)
	return out.String()
}

// record is a record of these names and values, in turns.
func record(fields ...any) string {
	var all []string
	for pair := range slices.Chunk(fields, 2) {
		value := pair[1]
		if b, ok := value.(bool); ok {
			value = strings.ToUpper(fmt.Sprint(b))
		}
		all = append(all, fmt.Sprintf("%v |-> %v", pair[0], value))
	}
	return "[" + strings.Join(all, ", ") + "]"
}

func sequence[E any](elements []E, text func(E) string) string {
	var all []string
	for _, e := range elements {
		all = append(all, text(e))
	}
	return "<<" + strings.Join(all, ", ") + ">>"
}

func function(of []process, value func(process) any) string {
	var all []string
	for _, p := range of {
		all = append(all, fmt.Sprintf("%v :> %v", p, value(p)))
	}
	return "(" + strings.Join(all, " @@ ") + ")"
}

// numbers are those of the elements that are true, from 1.
func numbers(of []bool) string {
	var all []string
	for i, in := range of {
		if in {
			all = append(all, fmt.Sprint(i+1))
		}
	}
	return "{" + strings.Join(all, ", ") + "}"
}

func (s processSet) String() string {
	var all []string
	for _, p := range s.list() {
		all = append(all, p.String())
	}
	return "{" + strings.Join(all, ", ") + "}"
}

func (b promises) String() string {
	var all []string
	for i, name := range []string{"L5", "L6", "L7", "L8"} {
		if b&(1<<i) != 0 {
			all = append(all, `"`+name+`"`)
		}
	}
	return "{" + strings.Join(all, ", ") + "}"
}

// quoted is a string of TLA+.
func quoted(word fmt.Stringer) string { return `"` + word.String() + `"` }

func (r lifeServer) String() string {
	return record("pc", quoted(r.pc), "ino", r.ino, "tok", r.tok, "mem", r.mem, "lis", quoted(r.lis), "cur", r.cur,
		"ready", r.ready, "num", r.num, "hung", r.hung)
}

func (r lifeClient) String() string {
	return record("pc", quoted(r.pc), "k", r.k, "mem", r.mem, "tok", r.tok, "sfate", quoted(r.sfate), "hung", r.hung)
}

func (k lifeConn) String() string {
	return record("s", k.s, "c", k.c, "st", quoted(k.st), "toS", quoted(k.toS), "toC", quoted(k.toC), "copy", k.copy,
		"num", k.num, "mem", k.mem, "tok", k.tok, "fate", quoted(k.fate), "gone", quoted(k.gone))
}
