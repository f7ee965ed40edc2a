package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"go/scanner"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// errNoParent says that there is nothing to compare with. The guard prints it and fails nothing.
var errNoParent = errors.New("there is no parent to compare with")

// parentOf writes out the commit that a tree is compared with. The default is what the
// tree has come from: HEAD while its code is not committed, and then HEAD's parent.
func (w *work) parentOf(root, base string) (directory, name string, err error) {
	if base != "" {
		return w.export(root, base)
	}
	directory, name, err = w.export(root, "HEAD")
	if err != nil {
		return "", "", fmt.Errorf("%w: %w", errNoParent, err)
	}
	ours, err := w.code(root)
	if err != nil {
		return "", "", err
	}
	if committed, err := w.code(directory); err != nil || committed != ours {
		return directory, name, nil // what cannot be read is not ours, either
	}
	directory, name, err = w.export(root, "HEAD~1")
	if err != nil {
		return "", "", fmt.Errorf("%w: %w", errNoParent, err)
	}
	return directory, name, nil
}

// export writes a commit to a directory of its own. The repository is only read: it
// gets no worktree, and its index stays as it is.
func (w *work) export(root, revision string) (directory, name string, err error) {
	directory, err = os.MkdirTemp(w.directory, "commit")
	if err != nil {
		return "", "", err
	}
	git := func(args ...string) (string, error) {
		// A checkout of another user is none of git's business here.
		cmd := w.command("git", append([]string{"-c", "safe.directory=*", "-C", root}, args...)...)
		cmd.Env = append(cmd.Environ(), "GIT_INDEX_FILE="+directory+".index")
		return output(cmd)
	}
	if name, err = git("log", "-1", "--no-show-signature", "--format=%h (%s)", "--end-of-options", revision); err != nil {
		return "", "", err
	}
	if _, err = git("read-tree", "--end-of-options", revision+"^{tree}"); err != nil {
		return "", "", err
	}
	if _, err = git("checkout-index", "--all", "--prefix="+directory+"/"); err != nil {
		return "", "", err
	}
	return directory, revision + ", " + strings.TrimSpace(name), nil
}

// code is a summary of all that ipc is compiled from: two trees with the same summary
// have the same ipc. Comments and the form of the text do not count, and neither do tests.
func (w *work) code(tree string) (summary string, err error) {
	cmd := w.command("go", "list", "-deps", "-json=ImportPath,Dir,GoFiles,SFiles,Standard,Module", "./ipc")
	cmd.Dir = tree
	listed, err := output(cmd)
	if err != nil {
		return "", err
	}
	cmd = w.command("go", "env", "GOVERSION", "GOFLAGS", "GOEXPERIMENT", "GOAMD64", "GOARM64")
	cmd.Dir = tree
	build, err := output(cmd) // go.mod can choose the toolchain
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	_, _ = io.WriteString(sum, build)
	for packages := json.NewDecoder(strings.NewReader(listed)); ; {
		var p struct {
			ImportPath, Dir string
			GoFiles, SFiles []string
			Standard        bool
			Module          struct {
				Version, GoVersion string
				Main               bool
			}
		}
		if err := packages.Decode(&p); errors.Is(err, io.EOF) {
			return fmt.Sprintf("%x", sum.Sum(nil)), nil
		} else if err != nil {
			return "", fmt.Errorf("go list: %w", err)
		}
		if p.Standard {
			continue
		}
		fmt.Fprintln(sum, p.ImportPath, p.Module.Version, p.Module.GoVersion)
		if !p.Module.Main {
			continue
		}
		for _, name := range append(p.GoFiles, p.SFiles...) {
			text, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				return "", err
			}
			if strings.HasSuffix(name, ".go") {
				text = tokens(text)
			}
			fmt.Fprintf(sum, "%s %d\n%s\n", name, len(text), text)
		}
	}
}

// tokens is the text of a Go file without what the compiler does not see. It does see
// comments that are directives.
func tokens(text []byte) []byte {
	var s scanner.Scanner
	s.Init(token.NewFileSet().AddFile("", -1, len(text)), text, nil, scanner.ScanComments)
	var out bytes.Buffer
	ended := false
	for {
		_, kind, literal := s.Scan()
		switch {
		case kind == token.EOF:
			return out.Bytes()
		case kind == token.COMMENT && !strings.HasPrefix(literal, "//go:"):
			continue
		case kind == token.SEMICOLON: // or the end of a line
			ended = true
			continue
		case literal == "":
			literal = kind.String()
		}
		if ended && kind != token.RBRACE && kind != token.RPAREN { // before which none is needed
			out.WriteString(";\n")
		}
		ended = false
		out.WriteString(literal + "\n")
	}
}
