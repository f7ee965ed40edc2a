package plant

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// bed writes a package with these files.
func bed(t *testing.T, files map[string]string) (directory string) {
	t.Helper()
	directory = t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return directory
}

const plot = `package a

func (g *gate) enter(limit int) bool {
	if g.count >= limit { // full
		return false
	}
	g.count++ // one more
	return true
}

func (g gate) leave() { g.count-- }

func leave(g *gate) {
	g.count++
	g.leave()
}
`

// What has changed in a file besides the code of the place does not matter: comments, lines,
// the function that it is in if none is named, names that have replaced others in the package,
// and even the file.
func TestAnEditFindsItsPlace(t *testing.T) {
	rename := strings.NewReplacer("count", "inside", "limit", "most").Replace(plot)
	other := "package a\n\nfunc used() { count := 1; count++ }\n"
	for what, c := range map[string]struct {
		files     map[string]string
		edit      Edit
		file, has string // what has the edit done, or the error
	}{
		"as it is":           {map[string]string{"a.go": plot}, Edit{"a.go", "g.count >= limit", "g.count > limit"}, "a.go", "if g.count > limit { // full"},
		"other lines":        {map[string]string{"a.go": plot}, Edit{"a.go", "if g.count >=\n\tlimit {", "if g.count > limit {"}, "a.go", "if g.count > limit { // full"},
		"another comment":    {map[string]string{"a.go": plot}, Edit{"a.go", "limit { // not any more\n", "limit+1 {\n"}, "a.go", "limit+1 {"},
		"a comment between":  {map[string]string{"a.go": plot}, Edit{"a.go", "g.count++\n\treturn true\n", "return true\n"}, "a.go", "\treturn true\n\n}"},
		"a function":         {map[string]string{"a.go": plot}, Edit{"a.go:enter", "g.count++", "g.count += 2"}, "a.go", "g.count += 2 // one more"},
		"a method":           {map[string]string{"a.go": plot}, Edit{"a.go:gate.leave", "g.count--", "_ = g.count"}, "a.go", "func (g gate) leave() { _ = g.count }"},
		"renamed":            {map[string]string{"a.go": rename}, Edit{"a.go", "if g.count >= limit {\n\t\treturn", "if limit == g.count {\n\t\treturn"}, "a.go", "if most == g.inside {"},
		"moved":              {map[string]string{"a.go": "package a\n", "b.go": plot}, Edit{"a.go", "g.count >= limit", "g.count > limit"}, "b.go", "if g.count > limit {"},
		"a function moved":   {map[string]string{"b.go": plot}, Edit{"a.go:enter", "g.count++", "g.count += 2"}, "b.go", "g.count += 2 // one more"},
		"moved and renamed":  {map[string]string{"b.go": rename}, Edit{"a.go", "g.count >= limit {\n\t\treturn", "true {\n\t\treturn"}, "b.go", "if true {"},
		"twice":              {map[string]string{"a.go": plot}, Edit{"a.go", "g.count++", "g.count--"}, "", "2 times, want once"},
		"two functions":      {map[string]string{"a.go": plot}, Edit{"a.go:leave", "g.count++", "g.count--"}, "", "several functions leave"},
		"nowhere":            {map[string]string{"a.go": plot}, Edit{"a.go", "g.count >= limit+1", ""}, "", "0 times, want once"},
		"another operator":   {map[string]string{"a.go": plot}, Edit{"a.go", "g.count >= limit && true", ""}, "", "line 4 begins like it, with 5 of its 7 words"},
		"a name still known": {map[string]string{"a.go": rename, "b.go": other}, Edit{"a.go", "if g.count >= limit {\n\t\treturn", ""}, "", "0 times, want once"},
		"all names are new":  {map[string]string{"a.go": plot}, Edit{"a.go", "h.number--", ""}, "", "0 times, want once"},
		"two names for one":  {map[string]string{"a.go": plot}, Edit{"a.go", "func leave(a *gate) {\n\tb.count++", ""}, "", "0 times, want once"},
		"one name for two":   {map[string]string{"a.go": "package a\n\nfunc f(a, b int) int { return a + b + a }\n"}, Edit{"a.go", "func f(a, x int) int { return a + b + x }", ""}, "", "0 times, want once"},
		"no Go":              {map[string]string{"a.go": plot}, Edit{"a.go", "\"open", ""}, "", "no text of Go"},
		"only a comment":     {map[string]string{"a.go": plot}, Edit{"a.go", "// one more", ""}, "", "no text of Go"},
	} {
		t.Run(what, func(t *testing.T) {
			directory := bed(t, c.files)
			t.Chdir(filepath.Dir(directory))
			files, err := Bug{what, []Edit{c.edit}}.Alone(filepath.Base(directory))
			if c.file == "" {
				if err == nil || !strings.Contains(err.Error(), c.has) {
					t.Errorf("%v, want %q in it", err, c.has)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if changed := slices.Collect(maps.Keys(files)); len(changed) != 1 || filepath.Base(changed[0]) != c.file {
				t.Errorf("%v changed, want %s", changed, c.file)
			}
			if text := files[filepath.Join(directory, c.file)]; !strings.Contains(text, c.has) {
				t.Errorf("%q is not in\n%s", c.has, text)
			}
		})
	}
}

// An edit finds what an earlier one of the same bug has written, and knows what that has
// learnt of names.
func TestAnEditFollowsAnother(t *testing.T) {
	directory := bed(t, map[string]string{"a.go": plot})
	edits := []Edit{{"a.go", "g.count++ // one more\n\treturn", "g.count += 2\n\treturn"}, {"a.go", "g.count += 2", "g.count += 3"}}
	files, err := Bug{"it", edits}.Alone(directory)
	if text := files[filepath.Join(directory, "a.go")]; err != nil || !strings.Contains(text, "g.count += 3") {
		t.Errorf("%v\n%s", err, text)
	}
	directory = bed(t, map[string]string{"a.go": strings.ReplaceAll(plot, "limit", "most")})
	edits = []Edit{{"a.go", "if g.count >= limit {\n\t\treturn", "if false {\n\t\treturn"}, {"a.go", "return true\n", "return limit > 0\n"}}
	files, err = Bug{"it", edits}.Alone(directory)
	if text := files[filepath.Join(directory, "a.go")]; err != nil || !strings.Contains(text, "return most > 0") {
		t.Errorf("%v\n%s", err, text)
	}
}

// Each bug that has lost its place is named.
func TestPlacesNamesTheBugsThatHaveLostTheirs(t *testing.T) {
	directory := bed(t, map[string]string{"a.go": plot})
	found := Bug{"found", []Edit{{"a.go", "g.count >= limit", "true"}}}
	if err := Places(directory, []Bug{found}); err != nil {
		t.Error(err)
	}
	err := Places(directory, []Bug{{"first", []Edit{{"a.go", "nothing()", ""}}}, found, {"second", []Edit{{"a.go", "g.count++", ""}}}})
	if err == nil || !strings.Contains(err.Error(), "first: ") || !strings.Contains(err.Error(), "second: ") || strings.Contains(err.Error(), "found: ") {
		t.Errorf("%v, want the first and the second named", err)
	}
}
