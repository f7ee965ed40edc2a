package model

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A value is one of TLA+, as TLC prints it. A sequence and a record are functions,
// so all three are maps here, and equal ones look equal.
type value struct {
	kind kind
	atom string   // of an atom: the text
	key  []string // of a map: the arguments, in canonical text and order
	elem []value  // of a map: the results; of a set: the elements, in order
}

type kind uint8

const (
	isAtom kind = iota
	isMap
	isSet
)

// A variable is one of a state, with its value.
type variable struct {
	name string
	value
}

// parseState reads the variables of a state, which TLC prints as a conjunction,
// and returns them in the order of their names.
func parseState(text string) ([]variable, error) {
	p := &parser{rest: text}
	var all []variable
	for p.space(); p.rest != ""; p.space() {
		p.take(`/\`)
		name := p.word()
		if name == "" || !p.take("=") {
			return nil, p.fault("a variable")
		}
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		all = append(all, variable{name, v})
	}
	slices.SortFunc(all, func(a, b variable) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

// canonical returns the text of a state in the one form that equal states have.
func canonical(text string) (string, error) {
	all, err := parseState(text)
	if err != nil {
		return "", err
	}
	out := make([]byte, 0, len(text))
	for _, v := range all {
		out = append(append(append(out, `/\ `...), v.name...), " = "...)
		out = append(v.append(out), '\n')
	}
	return string(out), nil
}

// changed returns what is different in the second state, as "place old -> new".
func changed(before, after string) ([]string, error) {
	a, err := parseState(before)
	if err != nil {
		return nil, err
	}
	b, err := parseState(after)
	if err != nil {
		return nil, err
	}
	if len(a) != len(b) {
		return nil, fmt.Errorf("model: %d variables, then %d", len(a), len(b))
	}
	var all []string
	for i := range a {
		all = differ(all, a[i].name, a[i].value, b[i].value)
	}
	return all, nil
}

// differ goes into functions whose arguments are the same, and shows the rest whole.
func differ(all []string, place string, a, b value) []string {
	if a.kind == isMap && b.kind == isMap && slices.Equal(a.key, b.key) {
		for i, key := range a.key {
			inner := place + "[" + key + "]"
			if name, err := strconv.Unquote(key); err == nil {
				inner = place + "." + name
			}
			all = differ(all, inner, a.elem[i], b.elem[i])
		}
		return all
	}
	if before, after := string(a.append(nil)), string(b.append(nil)); before != after {
		all = append(all, place+" "+before+" -> "+after)
	}
	return all
}

// A parser reads values from a text.
type parser struct {
	rest string
}

func (p *parser) space() {
	p.rest = strings.TrimLeft(p.rest, " \n\t\r")
}

// take skips the token if it is next.
func (p *parser) take(token string) bool {
	p.space()
	if !strings.HasPrefix(p.rest, token) {
		return false
	}
	p.rest = p.rest[len(token):]
	return true
}

// word takes a name or a number; empty if none is next.
func (p *parser) word() string {
	p.space()
	n := 0
	for n < len(p.rest) {
		c := p.rest[n]
		if !(c == '_' || c == '-' && n == 0 || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z') {
			break
		}
		n++
	}
	word := p.rest[:n]
	p.rest = p.rest[n:]
	return word
}

func (p *parser) fault(wanted string) error {
	return fmt.Errorf("model: %s is missing before %.40q", wanted, p.rest)
}

func (p *parser) value() (value, error) {
	switch {
	case p.take("<<"):
		v := value{kind: isMap}
		err := p.list(">>", func() error {
			e, err := p.value()
			v.key, v.elem = append(v.key, strconv.Itoa(len(v.key)+1)), append(v.elem, e)
			return err
		})
		return v, err
	case p.take("{"):
		v := value{kind: isSet}
		err := p.list("}", func() error {
			e, err := p.value()
			v.elem = append(v.elem, e)
			return err
		})
		v.sortSet()
		return v, err
	case p.take("["):
		v := value{kind: isMap}
		err := p.list("]", func() error {
			name := p.word()
			if !p.take("|->") {
				return p.fault("|->")
			}
			return p.pair(&v, strconv.Quote(name))
		})
		v.sortMap()
		return v, err
	case p.take("("):
		return p.function()
	case strings.HasPrefix(p.rest, `"`):
		end := strings.IndexByte(p.rest[1:], '"')
		if end < 0 {
			return value{}, p.fault("the end of a string")
		}
		v := value{atom: p.rest[:end+2]}
		p.rest = p.rest[end+2:]
		return v, nil
	}
	word := p.word()
	if word == "" {
		return value{}, p.fault("a value")
	}
	if p.take("..") {
		return interval(word, p.word())
	}
	return value{atom: word}, nil
}

// list reads elements, with commas in between, up to the closing token.
func (p *parser) list(closing string, element func() error) error {
	if p.take(closing) {
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		if p.take(closing) {
			return nil
		}
		if !p.take(",") {
			return p.fault(closing)
		}
	}
}

// pair reads the result for an argument.
func (p *parser) pair(v *value, key string) error {
	e, err := p.value()
	v.key, v.elem = append(v.key, key), append(v.elem, e)
	return err
}

// function reads (a :> x @@ b :> y).
func (p *parser) function() (value, error) {
	v := value{kind: isMap}
	for {
		key, err := p.value()
		if err != nil {
			return v, err
		}
		if !p.take(":>") {
			return v, p.fault(":>")
		}
		if err := p.pair(&v, string(key.append(nil))); err != nil {
			return v, err
		}
		if p.take(")") {
			v.sortMap()
			return v, nil
		}
		if !p.take("@@") {
			return v, p.fault(")")
		}
	}
}

// interval is a..b, which TLC prints for a set that it has not written out.
func interval(from, to string) (value, error) {
	a, err := strconv.Atoi(from)
	if err != nil {
		return value{}, fmt.Errorf("model: an interval from %q", from)
	}
	b, err := strconv.Atoi(to)
	if err != nil {
		return value{}, fmt.Errorf("model: an interval to %q", to)
	}
	v := value{kind: isSet}
	for ; a <= b; a++ {
		v.elem = append(v.elem, value{atom: strconv.Itoa(a)})
	}
	v.sortSet()
	return v, nil
}

// order puts shorter texts first, which puts numbers in their order.
func order(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

func (v *value) sortMap() {
	places := make([]int, len(v.key))
	for i := range places {
		places[i] = i
	}
	slices.SortFunc(places, func(i, j int) int { return order(v.key[i], v.key[j]) })
	key, elem := make([]string, len(places)), make([]value, len(places))
	for i, place := range places {
		key[i], elem[i] = v.key[place], v.elem[place]
	}
	v.key, v.elem = key, elem
}

func (v *value) sortSet() {
	slices.SortFunc(v.elem, func(a, b value) int { return order(string(a.append(nil)), string(b.append(nil))) })
}

// append adds the canonical text. A function is printed as a sequence or a record
// if it is one, however it was written.
func (v value) append(out []byte) []byte {
	switch v.kind {
	case isAtom:
		return append(out, v.atom...)
	case isSet:
		return v.appendAll(out, "{", ", ", "}", func(int) string { return "" })
	}
	sequence, record := true, true
	for i, key := range v.key {
		sequence = sequence && key == strconv.Itoa(i+1)
		record = record && strings.HasPrefix(key, `"`)
	}
	switch {
	case sequence:
		return v.appendAll(out, "<<", ", ", ">>", func(int) string { return "" })
	case record:
		return v.appendAll(out, "[", ", ", "]", func(i int) string { return strings.Trim(v.key[i], `"`) + " |-> " })
	}
	return v.appendAll(out, "(", " @@ ", ")", func(i int) string { return v.key[i] + " :> " })
}

func (v value) appendAll(out []byte, begin, between, end string, key func(int) string) []byte {
	out = append(out, begin...)
	for i, e := range v.elem {
		if i > 0 {
			out = append(out, between...)
		}
		out = e.append(append(out, key(i)...))
	}
	return append(out, end...)
}
