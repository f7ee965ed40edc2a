// Package plant plants bugs in a package, so that its tests can be seen to find them.
//
// A bug is an edit of the package's text. Alone, it is a build of its own. Together,
// many are in one build and asleep: each has its own copies of the functions that it
// changes, and a function begins with the question whether a copy of it is awake. That
// is decided once, by the environment, when the program begins. No file of the tree is
// touched: what is built is an overlay, as go build -overlay takes it.
package plant

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// An Edit replaces a text of Go that stands once in a file of the package, or in one function
// of it: File is NAME.go, NAME.go:FUNCTION or NAME.go:TYPE.METHOD. What counts are
// its tokens, not its white space and comments; and it follows what is renamed or moved: for
// a name that the package does not have any more stands the one that has its place, and a
// text that has left its file is looked for in the others.
type Edit struct{ File, Old, New string }

// A Bug has a name, by which it is awakened.
type Bug struct {
	Name  string
	Edits []Edit
}

// awake is the variable of the environment that has the number of the bug that is awake.
const awake = "TANDEM_PLANTED"

// Alone returns the files that the bug changes, by their absolute names, as they are
// with it. It is an error if there is not one place for each edit.
func (b Bug) Alone(directory string) (map[string]string, error) {
	g := &ground{directory: directory, changed: map[string]string{}, renamed: map[string]string{}}
	for _, e := range b.Edits {
		place, err := g.find(e)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", b.Name, err)
		}
		text, err := g.text(place.name)
		if err == nil {
			text, err = g.put(place, text, e)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", b.Name, err)
		}
		g.changed[place.name] = text
	}
	return g.changed, nil
}

// Places returns an error for each bug that does not find its place. The tests of a package
// ask it apart from their others: whether a change of the code is a fault is not for it to say.
func Places(directory string, bugs []Bug) error {
	var all []error
	for _, b := range bugs {
		_, err := b.Alone(directory)
		all = append(all, err)
	}
	return errors.Join(all...)
}

// A Shared build has many bugs in it, asleep.
type Shared struct {
	Files map[string]string // of the package, as they are with the bugs, by their absolute names

	planted []string // names; a bug's number is its place, from 1
}

// Has reports whether a bug is there. One that changes more than the bodies of
// functions, or a function that recovers or is generic, can only be planted alone.
func (s *Shared) Has(name string) bool { return slices.Contains(s.planted, name) }

// Awaken is the entry of the environment by which a shared program
// has the bug, if it is there.
func (s *Shared) Awaken(name string) string {
	return fmt.Sprintf("%s=%d", awake, slices.Index(s.planted, name)+1)
}

// Together plants what can be planted together in the package of a directory.
func Together(directory string, bugs []Bug) (*Shared, error) {
	shared := &Shared{Files: map[string]string{}}
	sources := map[string]*source{}
	for _, bug := range bugs {
		changed, err := bug.Alone(directory)
		if err != nil {
			return nil, err
		}
		copies := map[string][]function{}
		together := true
		for name, text := range changed {
			if sources[name] == nil {
				if sources[name], err = parse(name); err != nil {
					return nil, err
				}
			}
			var fits bool
			if copies[name], fits, err = sources[name].differences(text); err != nil {
				return nil, fmt.Errorf("%s: %w", bug.Name, err)
			}
			together = together && fits
		}
		if !together {
			continue
		}
		shared.planted = append(shared.planted, bug.Name)
		for name, functions := range copies {
			for _, f := range functions {
				sources[name].plant(f, len(shared.planted))
			}
		}
	}
	packageName := ""
	for name, s := range sources {
		shared.Files[name] = s.text()
		packageName = s.file.Name.Name
	}
	own, err := filepath.Abs(filepath.Join(directory, "planted_together.go"))
	if err != nil {
		return nil, err
	}
	shared.Files[own] = fmt.Sprintf(`package %s

import (
	"os"
	"strconv"
)

// plantedBug is the number of the bug that is awake; 0 if none is.
var plantedBug = func() int { n, _ := strconv.Atoi(os.Getenv(%q)); return n }()
`, packageName, awake)
	return shared, nil
}

// WriteOverlay writes files to a directory, with a list of them for go build -overlay. It
// returns the name of that list.
func WriteOverlay(directory string, files map[string]string) (string, error) {
	replace := map[string]string{}
	for name, text := range files {
		replace[name] = filepath.Join(directory, filepath.Base(name))
		if err := os.WriteFile(replace[name], []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(directory, "overlay.json")
	return overlay, os.WriteFile(overlay, text, 0o600)
}

// Found reports whether a test binary, run with -test.v, ended as one does that has found
// a bug: a test failed, the program crashed, or it was killed while a test ran. The bug may
// have killed it, or somebody who waited in vain.
func Found(output string, err error) bool {
	var ended *exec.ExitError
	if errors.As(err, &ended) && !ended.Exited() {
		return strings.Contains(output, "=== RUN")
	}
	return err != nil && failure.MatchString(output)
}

var failure = regexp.MustCompile(`(?m)^ *--- FAIL: |^panic: |^fatal error: |^unexpected fault address |^SIG[A-Z]+: `)
