// Package page makes the page of the evaluation, its pictures and the README's numbers
// from a result file. Prose is by hand, in the templates; each figure is of a row, which
// the sentence names.
package page

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"

	m "github.com/tandem-ipc/tandem/internal/measure"
)

// Where what is made lies, below the root of the repository.
const (
	Path     = "docs/PERFORMANCE.md"
	Pictures = "docs/performance"
	results  = "bench/results"
)

//go:embed performance.md.tmpl
var pageTemplate string

//go:embed readme.md.tmpl
var readmeTemplate string

// The README's numbers are between these lines.
const (
	readmeBegin = "<!-- numbers: go run ./bench -report writes them -->\n"
	readmeEnd   = "<!-- the end of the numbers -->\n"
)

// ErrNoResult says that no result file is there to make a page of.
var ErrNoResult = errors.New("there is no result file in " + results + ": run go run ./bench -quick")

// LastResult is the path of the newest result file.
func LastResult(root string) (string, error) {
	all, err := filepath.Glob(filepath.Join(root, results, "*.json")) // sorted, and their names begin with the date
	if err != nil || len(all) == 0 {
		return "", errors.Join(err, ErrNoResult)
	}
	return all[len(all)-1], nil
}

// Write makes everything from a result file.
func Write(root, result string) error {
	f, err := m.ReadFile(result)
	if err != nil {
		return err
	}
	text, err := Render(f, filepath.ToSlash(filepath.Join(results, filepath.Base(result))))
	if err != nil {
		return err
	}
	readme, err := Readme(root, f)
	if err != nil {
		return err
	}
	pictures := filepath.Join(root, Pictures)
	if err := os.MkdirAll(pictures, 0o755); err != nil {
		return err
	}
	return errors.Join(
		Draw(f, pictures),
		os.WriteFile(filepath.Join(root, Path), text, 0o644),
		os.WriteFile(filepath.Join(root, "README.md"), readme, 0o644),
	)
}

// Render is the page.
func Render(f *m.File, source string) ([]byte, error) {
	return fill("performance", pageTemplate, f, source)
}

// Readme is the README with the numbers of a result file.
func Readme(root string, f *m.File) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		return nil, err
	}
	before, rest, begun := strings.Cut(string(text), readmeBegin)
	_, after, ended := strings.Cut(rest, readmeEnd)
	if !begun || !ended {
		return nil, fmt.Errorf("the README has no place for the numbers: want %q and %q", readmeBegin, readmeEnd)
	}
	numbers, err := fill("readme", readmeTemplate, f, "")
	return []byte(before + readmeBegin + string(numbers) + readmeEnd + after), err
}

func fill(name, text string, f *m.File, source string) ([]byte, error) {
	w := &writer{File: f, Source: source}
	t, err := template.New(name).Funcs(w.functions()).Parse(text)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, w); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// inTemplate matches the name of a row in a template.
var inTemplate = regexp.MustCompile(`"([^"]+ / [^"]+ / [^"]+)"`)

// RowsOfTemplates are the rows that the prose speaks of. Where a template says %s, each of
// its sizes is meant.
func RowsOfTemplates() (names []string) {
	for _, match := range inTemplate.FindAllStringSubmatch(pageTemplate+readmeTemplate, -1) {
		if !strings.Contains(match[1], "%s") {
			names = append(names, match[1])
			continue
		}
		for _, size := range readmeSizes {
			names = append(names, fmt.Sprintf(match[1], size))
		}
	}
	return names
}

// readmeSizes are those of the README's table.
var readmeSizes = []string{"8 B", "64 B", "1 KiB", "64 KiB", "1 MiB"}
