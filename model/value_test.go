package model

import (
	"slices"
	"testing"
)

func TestCanonicalTextIsOne(t *testing.T) {
	for _, same := range [][]string{
		{"/\\ a = 1\n/\\ b = 2\n", "/\\ b = 2\n/\\ a = 1", "a = 1 /\\ b = 2"},
		{"x = {3, 1, 2}", "x = 1..3", "x = {1, 2, 3}"},
		{"x = <<4, 5>>", "x = (1 :> 4 @@ 2 :> 5)", "x = (2 :> 5 @@ 1 :> 4)"},
		{`x = [b |-> <<>>, a |-> {}]`, `x = ("a" :> {} @@ "b" :> <<>>)`, "x = [ a |-> {},\n  b |-> <<>> ]"},
		{"x = (s2 :> TRUE @@ s1 :> FALSE)", "x = (s1 :> FALSE @@ s2 :> TRUE)"},
		{"x = {<<1, {2, 10}>>, <<1, {10, 3}>>}", "x = {<<1, {3, 10}>>, <<1, {10, 2}>>}"},
		{"x = -1", "x=-1"},
	} {
		want, err := canonical(same[0])
		if err != nil {
			t.Errorf("%q: %v", same[0], err)
		}
		for _, text := range append(same[1:], want) {
			if got, err := canonical(text); err != nil || got != want {
				t.Errorf("%q: %q, %v; want %q", text, got, err, want)
			}
		}
	}
	different := map[string]string{}
	for _, text := range []string{
		"x = 1", "y = 1", "x = <<1>>", "x = {1}", "x = <<>>", "x = {}", "x = <<1, 2>>", "x = <<2, 1>>", `x = "1"`, "x = (0 :> 1)",
		"x = [a |-> 1]", "x = [b |-> 1]", "x = <<<<1>>, 2>>", "x = <<1, <<2>>>>", "x = (a :> 1)", `x = "a, b"`, `x = <<"a", "b">>`,
	} {
		got, err := canonical(text)
		if err != nil || different[got] != "" {
			t.Errorf("%q: %v; the same as %q", text, err, different[got])
		}
		different[got] = text
	}
	for _, broken := range []string{"x", "x =", "x = <<1", "x = {1,", "x = [a 1]", "x = (1 :> )", "x = (1, 2)", `x = "a`, "x = 1 2", "= 1", "x = a..2"} {
		if got, err := canonical(broken); err == nil {
			t.Errorf("%q is read as %q", broken, got)
		}
	}
}

func TestChangesAreNamedByTheirPlace(t *testing.T) {
	got, err := changed(
		"/\\ a = [p |-> <<1, 2>>, q |-> {1}]\n/\\ b = <<>>\n/\\ c = (0 :> <<7, 8>> @@ 1 :> <<9, 9>>)",
		"/\\ a = [p |-> <<1, 3>>, q |-> {1, 2}]\n/\\ b = <<5>>\n/\\ c = (0 :> <<7, 8>> @@ 1 :> <<9, 0>>)")
	want := []string{"a.p[2] 2 -> 3", "a.q {1} -> {1, 2}", "b <<>> -> <<5>>", "c[1][2] 9 -> 0"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}
