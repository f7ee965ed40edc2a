package ci

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// importers is what a module brings along that imports one package, and nothing else
// of this module: the packages that it builds besides the standard library's, and the
// modules that its go.mod then names.
var importers = map[string]struct{ packages, modules []string }{
	"ipc": {
		[]string{modulePath + "/internal/step", modulePath + "/ipc", "golang.org/x/sys/unix"},
		[]string{modulePath, "golang.org/x/sys"},
	},
	"ipc/conn": {
		[]string{modulePath + "/internal/step", modulePath + "/ipc", modulePath + "/ipc/conn", "golang.org/x/sys/unix"},
		[]string{modulePath, "golang.org/x/sys"},
	},
	"ipc/worker": {
		[]string{"github.com/cenkalti/backoff/v5", modulePath + "/internal/step", modulePath + "/ipc", modulePath + "/ipc/worker", "golang.org/x/sys/unix"},
		[]string{"github.com/cenkalti/backoff/v5", modulePath, "golang.org/x/sys"},
	},
}

// graph is every module in the module graph of who imports one package, whichever it is: what this
// module's go.mod names, for its tests and commands too. None of it requires more:
// the go command leaves their requirements out, and downloads only what is built.
var graph = []string{
	"codeberg.org/go-fonts/liberation", "codeberg.org/go-latex/latex", "codeberg.org/go-pdf/fpdf", "git.sr.ht/~sbinet/gg",
	"github.com/HdrHistogram/hdrhistogram-go", "github.com/ajstarks/svgo", "github.com/anishathalye/porcupine",
	"github.com/cenkalti/backoff/v5", "github.com/golang/freetype", "github.com/mitchellh/colorstring", "github.com/rivo/uniseg",
	"github.com/schollz/progressbar/v3", modulePath, "golang.org/x/image", "golang.org/x/net", "golang.org/x/sys", "golang.org/x/term",
	"golang.org/x/text", "gonum.org/v1/gonum", "gonum.org/v1/plot", "pgregory.net/rapid",
}

// A law says what may be imported; here a fresh module imports, and the go command says
// what that brings along.
func TestWhoImportsOnePackageBuildsOnlyWhatItNeeds(t *testing.T) {
	for name, want := range importers {
		t.Run(name, func(t *testing.T) {
			o := newStranger(t)
			if packages := o.imports(name); !slices.Equal(packages, want.packages) {
				t.Errorf("it builds %v, want %v", packages, want.packages)
			}
			if modules := o.requirements(); !slices.Equal(modules, want.modules) {
				t.Errorf("its go.mod names %v, want %v", modules, want.modules)
			}
			if modules, requiring := modulesOf(o.mustRun("go mod graph")); !slices.Equal(modules, graph) || !slices.Equal(requiring, []string{modulePath, "importer"}) {
				t.Errorf("the modules of its graph are %v, want %v; %v require some", modules, graph, requiring)
			}
		})
	}
	o := newStranger(t)
	if packages, want := o.imports("chaos"), importers["ipc"]; slices.Equal(packages, want.packages) || slices.Equal(o.requirements(), want.modules) {
		t.Error("who imports chaos seems to need no more than who imports ipc: the check is blind")
	}
}

// modulesOf are the modules that something requires in the text of go mod graph, and
// those that require one. Not counted are versions of Go.
func modulesOf(text string) (required, requiring []string) {
	isGo := func(name string) bool { return name == "go" || name == "toolchain" }
	for line := range strings.Lines(text) {
		from, to, _ := strings.Cut(strings.TrimSpace(line), " ")
		from, _, _ = strings.Cut(from, "@")
		if to, _, _ = strings.Cut(to, "@"); !isGo(to) {
			required, requiring = append(required, to), append(requiring, from)
		}
	}
	slices.Sort(required)
	slices.Sort(requiring)
	return slices.Compact(required), slices.Compact(requiring)
}

func TestModulesOfAGraph(t *testing.T) {
	required, requiring := modulesOf("a go@1.24.0\na toolchain@go1.24.1\na b@v1.0.0\nb@v1.0.0 grpc@v1.2.3\na grpc@v1.2.0\n")
	if !slices.Equal(required, []string{"b", "grpc"}) || !slices.Equal(requiring, []string{"a", "b"}) {
		t.Errorf("%v are required, by %v", required, requiring)
	}
}

// imports makes the module one that imports a package of this one, and returns the
// packages that it builds, without those of the standard library.
func (o stranger) imports(name string) []string {
	o.t.Helper()
	o.mustRun("go mod init importer")
	o.replace()
	o.write("main.go", fmt.Sprintf("package main\n\nimport _ %q\n\nfunc main() {}\n", modulePath+"/"+name))
	o.mustRun("go mod tidy")
	o.mustRun("go build -o /dev/null .")
	packages := strings.Fields(o.mustRun("go list -deps -f '{{if not .Standard}}{{.ImportPath}}{{end}}' ."))
	slices.Sort(packages)
	return slices.DeleteFunc(packages, func(name string) bool { return name == "importer" })
}

// requirements are the modules that the go.mod names. The graph has more, see graph and
// requirementsAreUsed.
func (o stranger) requirements() (modules []string) {
	o.t.Helper()
	stdout := o.mustRun("go mod edit -json")
	var module struct{ Require []struct{ Path string } }
	if err := json.Unmarshal([]byte(stdout), &module); err != nil {
		o.t.Fatal(err)
	}
	for _, required := range module.Require {
		modules = append(modules, required.Path)
	}
	slices.Sort(modules)
	return modules
}

// requirementsAreUsed holds that each direct requirement of go.mod has a user in this
// module: one that only another module of the repository needs stands in that one's
// go.mod, and not in the graph of everybody who imports ipc.
func requirementsAreUsed(files tree) (broken []string, looked int) {
	module, found := files["go.mod"]
	if !found {
		return []string{"go.mod is missing"}, 0
	}
	imported := map[string]bool{}
	parsed, broken := goFiles(files, func(file string) bool { return !inNestedModule(files, file) })
	for _, file := range parsed {
		for _, spec := range file.syntax.Imports {
			name, _ := strconv.Unquote(spec.Path.Value)
			for ; name != "."; name = path.Dir(name) {
				imported[name] = true
			}
		}
	}
	inBlock := false
	for i, line := range linesOf(module.Data) {
		text, comment, _ := strings.Cut(line, "//")
		words := strings.Fields(text)
		if len(words) > 0 && words[0] == "require" {
			words = words[1:]
			inBlock = len(words) == 1 && words[0] == "("
		} else if !inBlock || len(words) == 0 {
			continue
		}
		switch {
		case len(words) == 1 && words[0] == ")":
			inBlock = false
		case len(words) == 2:
			looked++
			if strings.TrimSpace(comment) != "indirect" && !imported[words[0]] {
				broken = append(broken, fmt.Sprintf("go.mod:%d: no file of this module imports %s", i+1, words[0]))
			}
		}
	}
	return broken, looked
}

// inNestedModule reports whether a file belongs to another module of the repository.
func inNestedModule(files tree, file string) bool {
	for directory := path.Dir(file); directory != "."; directory = path.Dir(directory) {
		if files[directory+"/go.mod"] != nil {
			return true
		}
	}
	return false
}

func TestEveryRequirementHasAUserInThisModule(t *testing.T) {
	module := string(sound()["go.mod"].Data)
	enforce(t, requirementsAreUsed,
		plant{"one that nobody imports", "go.mod", strings.Replace(module, "require (", "require (\n\texample.com/log v1.0.0", 1), "example.com/log"},
		plant{"one on its own", "go.mod", module + "require example.com/log v1.0.0\n", "example.com/log"},
		plant{"the user is another module's", "ipc/go.mod", "module " + modulePath + "/ipc\n", "golang.org/x/sys"},
		plant{"no module", "go.mod", "", "missing"},
	)
}
