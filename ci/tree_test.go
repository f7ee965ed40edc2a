package ci

import (
	"bytes"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// A tree is a source tree in memory: path to text and mode. Laws look at
// trees, so that they can be shown a bad one.
type tree = fstest.MapFS

// readRepository returns the tree that a commit of everything would have, or,
// where there is no git, all files of the directory.
func readRepository(t *testing.T) tree {
	t.Helper()
	root := ".."
	// A checkout of another user is none of git's business here.
	cmd := exec.Command("git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root
	var paths []string
	if listed, err := cmd.Output(); err == nil {
		paths = strings.Split(strings.TrimRight(string(listed), "\x00"), "\x00")
	} else {
		t.Logf("git does not list the tree (%v): taking every file", err)
		paths = walk(t, root)
	}

	repository := tree{}
	for _, path := range paths {
		name := filepath.Join(root, path)
		info, err := os.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue // deleted and not yet committed; or a link
		}
		text, readErr := os.ReadFile(name)
		if err := errors.Join(err, readErr); err != nil {
			t.Fatal(err)
		}
		repository[path] = &fstest.MapFile{Data: text, Mode: info.Mode()}
	}
	return repository
}

func walk(t *testing.T, root string) (paths []string) {
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == ".git" {
			return fs.SkipDir
		}
		if !entry.IsDir() {
			relative, _ := filepath.Rel(root, path)
			paths = append(paths, filepath.ToSlash(relative))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// A goFile is one parsed file of a tree.
type goFile struct {
	path   string
	syntax *ast.File
	lines  []string
	fset   *token.FileSet
}

func (f goFile) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

func (f goFile) line(pos token.Pos) int { return f.fset.Position(pos).Line }

// goFiles parses the tree's Go files whose path is accepted, in the order of
// their paths. One that cannot be parsed breaks every law.
func goFiles(files tree, accept func(path string) bool) (parsed []goFile, broken []string) {
	for _, path := range sortedPaths(files) {
		if !strings.HasSuffix(path, ".go") || !accept(path) {
			continue
		}
		fset := token.NewFileSet()
		syntax, err := parser.ParseFile(fset, path, files[path].Data, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			broken = append(broken, err.Error())
			continue
		}
		parsed = append(parsed, goFile{path, syntax, linesOf(files[path].Data), fset})
	}
	return parsed, broken
}

func sortedPaths(files tree) []string {
	paths := make([]string, 0, len(files))
	for path := range files {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return paths
}

// linesOf does not count the empty line behind a final newline.
func linesOf(text []byte) []string {
	return strings.Split(string(bytes.TrimSuffix(text, []byte("\n"))), "\n")
}

// top is the first element of a path: the tree that a file belongs to.
func top(path string) string {
	first, _, _ := strings.Cut(path, "/")
	return first
}

// The predicates that laws choose their files by.
func anywhere(string) bool { return true }

func isTest(path string) bool { return strings.HasSuffix(path, "_test.go") }

func isShipped(path string) bool { return !isTest(path) }

// inIPC accepts what users of ipc compile, with the packages built on it.
func inIPC(path string) bool { return top(path) == "ipc" && isShipped(path) }

// inCore accepts what package ipc itself consists of.
func inCore(path string) bool { return inIPC(path) && strings.Count(path, "/") == 1 }
