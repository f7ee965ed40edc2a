package ci

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"strings"
	"testing"
)

// around is what the README leaves out around its example: a function in a file.
const around = `package main

import (
	"context"

	"` + modulePath + `/ipc"
)

func example(ctx context.Context, kind uint32, data []byte, answer func([]byte) []byte) error {
%s
	return err
}
`

// checkExample reports what the compiler has against the Go code in a document.
func checkExample(packages types.Importer, document string) error {
	_, rest, found := strings.Cut(document, "```go\n")
	code, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		return fmt.Errorf("there is no example in Go")
	}
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "example.go", fmt.Sprintf(around, code), 0)
	if err != nil {
		return err
	}
	config := types.Config{Importer: packages}
	_, err = config.Check("main", fset, []*ast.File{file}, nil)
	return err
}

func TestTheExampleOfTheReadmeCompiles(t *testing.T) {
	readme := string(readRepository(t)["README.md"].Data)
	packages := importer.ForCompiler(token.NewFileSet(), "source", nil)
	if err := checkExample(packages, readme); err != nil {
		t.Error(err)
	}
	for name, document := range map[string]string{
		"no example":             "See the code.\n",
		"another call":           strings.Replace(readme, "ipc.Dial(", "ipc.Connect(", 1),
		"one argument less":      strings.Replace(readme, "Send(ctx, kind, data)", "Send(kind, data)", 1),
		"a method that is gone":  strings.Replace(readme, "m.Release()", "m.Free()", 1),
		"an error not looked at": strings.Replace(readme, "server, err :=", "server :=", 1),
	} {
		if checkExample(packages, document) == nil {
			t.Errorf("%s: passes: the check is blind", name)
		}
	}
}
