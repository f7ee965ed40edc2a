package model

import "strconv"

// A stateText writes a state in TLC's syntax, variable by variable.
type stateText struct {
	out []byte
}

func (w *stateText) String() string {
	return string(w.out) + "\n"
}

// name begins a variable.
func (w *stateText) name(name string) {
	if w.out != nil {
		w.raw("\n")
	}
	w.raw(`/\ ` + name + " = ")
}

func (w *stateText) raw(text string)   { w.out = append(w.out, text...) }
func (w *stateText) int(n int)         { w.out = strconv.AppendInt(w.out, int64(n), 10) }
func (w *stateText) quote(text string) { w.out = strconv.AppendQuote(w.out, text) }

func (w *stateText) bool(b bool) {
	if b {
		w.raw("TRUE")
	} else {
		w.raw("FALSE")
	}
}

// number is a variable that is one.
func (w *stateText) number(name string, n int) {
	w.name(name)
	w.int(n)
}

// sequence is a variable that is one, of n elements.
func (w *stateText) sequence(name string, n int, element func(int)) {
	w.name(name)
	w.elements(n, element)
}

func (w *stateText) elements(n int, element func(int)) {
	w.raw("<<")
	for i := range n {
		if i > 0 {
			w.raw(", ")
		}
		element(i)
	}
	w.raw(">>")
}

// record is a variable that is one.
func (w *stateText) record(name string, fields []string, element func(int)) {
	w.name(name)
	w.raw("[")
	for i, field := range fields {
		if i > 0 {
			w.raw(", ")
		}
		w.raw(field + " |-> ")
		element(i)
	}
	w.raw("]")
}

// list is a variable that is one.
func (w *stateText) list(name string, l List) {
	w.name(name)
	w.numbers(l)
}

func (w *stateText) numbers(l List) {
	w.elements(l.Len(), func(i int) { w.int(l.At(i)) })
}
