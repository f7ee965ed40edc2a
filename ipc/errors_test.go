package ipc

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// checkErrorText holds a text to the form "ipc: what happened: what it means for
// the messages under way, or what to do".
func checkErrorText(text string) error {
	parts := strings.Split(text, ": ")
	for _, part := range parts {
		if strings.TrimSpace(strings.TrimSuffix(part, ":")) == "" {
			return fmt.Errorf("%q has an empty part", text)
		}
	}
	if parts[0] != "ipc" || len(parts) < 3 {
		return fmt.Errorf("%q does not say what happened, and what that means or what to do", text)
	}
	return nil
}

// errorSamples has the texts of each exported type of error.
var errorSamples = map[string][]error{
	"RunningError": {
		&RunningError{Path: "/run/s", Err: ErrServerRunning},
		&RunningError{Path: "/run/s", PID: 12, Err: ErrClientRunning},
	},
	"VersionError": {
		&VersionError{Ours: 1, Theirs: 2},
		&VersionError{Ours: 1, Theirs: 1, OurLayout: 1, TheirLayout: 2},
	},
	"PeerError": {
		&PeerError{Err: ErrPeerDied, Attachment: 3, Ends: 1},
		&PeerError{Err: ErrPeerClosed, Attachment: 3, Ends: 3, First: 2, Last: 4},
	},
	"ShortBufferError": {&ShortBufferError{Size: 100}},
	"CorruptError":     {&CorruptError{Invariant: "I1", Detail: "readPos 8 went back"}},
}

// errorsDeclared returns the texts of all exported errors of the package, by name,
// from its source, so that none is forgotten.
func errorsDeclared(t *testing.T) map[string][]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string][]string{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch spec := n.(type) {
			case *ast.ValueSpec:
				for _, variable := range spec.Names {
					if strings.HasPrefix(variable.Name, "Err") {
						texts[variable.Name] = literalsIn(spec)
					}
				}
			case *ast.TypeSpec:
				if spec.Name.IsExported() && strings.HasSuffix(spec.Name.Name, "Error") {
					texts[spec.Name.Name] = nil
					for _, sample := range errorSamples[spec.Name.Name] {
						texts[spec.Name.Name] = append(texts[spec.Name.Name], sample.Error())
					}
				}
			}
			return true
		})
	}
	return texts
}

// literalsIn returns the strings that stand in a declaration.
func literalsIn(declaration ast.Node) (texts []string) {
	ast.Inspect(declaration, func(n ast.Node) bool {
		if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			text, _ := strconv.Unquote(literal.Value)
			texts = append(texts, text)
		}
		return true
	})
	return texts
}

func TestEveryErrorSaysWhatItMeansOrWhatToDo(t *testing.T) {
	for _, bad := range []string{"", "ipc", "ipc: ring full", "ring full: nothing: try again", "ipc: ring full: ", "ipc: : try again", "ipc: ring full::"} {
		if checkErrorText(bad) == nil {
			t.Errorf("%q passes: the check is blind", bad)
		}
	}
	declared := errorsDeclared(t)
	if len(declared) < 18 { // 15 variables and 3 types
		t.Fatalf("only %d exported errors found: the test is blind", len(declared))
	}
	for name, texts := range declared {
		if len(texts) == 0 {
			t.Errorf("%s has no text that this test sees: give a type its row in errorSamples", name)
		}
		for _, text := range texts {
			if err := checkErrorText(text); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for name := range errorSamples {
		if declared[name] == nil {
			t.Errorf("errorSamples has %s, which is no exported error", name)
		}
	}
}

// A user can make an error of each exported type himself, as a stub in a test, and print it.
func TestTheZeroValueOfEachErrorHasAText(t *testing.T) {
	for name, samples := range errorSamples {
		zero := reflect.New(reflect.TypeOf(samples[0]).Elem()).Interface().(error)
		func() {
			defer func() {
				if cause := recover(); cause != nil {
					t.Errorf("%s panics: %v", name, cause)
				}
			}()
			if text := zero.Error(); text == "" || strings.Contains(text, "%!") {
				t.Errorf("%s: %q", name, text)
			}
			if errors.Is(zero, ErrPeerDied) || ended(zero) != (name == "CorruptError") {
				t.Errorf("%s is an error that it does not name", name)
			}
		}()
	}
}

// verbs are the verbs of package fmt: what a system call or a caller gave.
var verbs = regexp.MustCompile(`%[a-zA-Z0-9]+`)

// advises reports whether a format says more behind what happened than what a
// system call gave: an "ipc: stat %s: %w" leaves the reader alone.
func advises(format string) bool {
	parts := strings.Split(format, ": ")
	last := verbs.ReplaceAllString(parts[len(parts)-1], "")
	if len(parts) > 1 && strings.Trim(last, " ()") == "" { // a path, or the reason that is waited for
		parts = parts[:len(parts)-1]
		last = verbs.ReplaceAllString(parts[len(parts)-1], "")
	}
	return len(parts) > 2 && strings.Contains(last, " ")
}

// formatsOfErrors returns the formats of all errors that the package makes and
// that do not wrap an exported one.
func formatsOfErrors(t *testing.T) (formats []string) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range literalsIn(file) {
			if strings.HasPrefix(text, "ipc: ") {
				formats = append(formats, text)
			}
		}
	}
	return formats
}

func TestNoErrorOfASystemCallStandsAlone(t *testing.T) {
	for _, bad := range []string{"ipc: stat %s: %w", "ipc: read %s", "ipc: lock byte %d of the file: %w", "ipc: it is closed", "ipc: stat %s: %w (%w)"} {
		if advises(bad) {
			t.Errorf("%q passes: the check is blind", bad)
		}
	}
	formats := formatsOfErrors(t)
	if len(formats) < 60 {
		t.Fatalf("only %d errors found: the test is blind", len(formats))
	}
	for _, format := range formats {
		if !advises(format) {
			t.Errorf("%q does not say what that means, or what to do", format)
		}
	}
}
