// Package ci holds the project to its own rules: what CONTRIBUTING.md asks for
// and a machine can see is a law here, run by go test ./ci.
//
// Each law must pass a small sound tree, must find what is planted in it, and
// must find something to look at in the repository: a check that cannot fail is
// not a check.
package ci

import (
	"io/fs"
	"maps"
	"strings"
	"testing"
	"testing/fstest"
)

func TestImportsPointOneWay(t *testing.T) {
	imports := func(name, path string) string { return "package " + name + "\n\nimport _ \"" + path + "\"\n" }
	enforce(t, importsPointOneWay,
		plant{"ipc imports the model", "ipc/judge.go", imports("ipc", modulePath+"/model"), "ipc/judge.go:3"},
		plant{"a test of ipc imports chaos", "ipc/judge_test.go", imports("ipc_test", modulePath+"/chaos"), "ipc/judge_test.go:3"},
		plant{"what is shipped imports what tests plant bugs with", "ipc/worker/plant.go", imports("worker", modulePath+"/"+planter), "ipc may import []"},
		plant{"the model imports a package of ipc", "model/names.go", imports("model", modulePath+"/internal/step"), "owes nothing"},
		plant{"chaos imports a command", "chaos/main.go", imports("chaos", modulePath+"/cmd/tandem"), "chaos/main.go:3"},
		plant{"ipc imports somebody else", "ipc/sub/log.go", imports("sub", "example.com/log"), "standard library"},
		plant{"ipc imports what is built on it", "ipc/net.go", imports("ipc", modulePath+"/ipc/conn"), "built on nothing of ours"},
		plant{"ipc imports more of x/sys", "ipc/cpu.go", imports("ipc", "golang.org/x/sys/cpu"), "standard library"},
		plant{"ipc imports what worker may", "ipc/pause.go", imports("ipc", "github.com/cenkalti/backoff/v5"), "each in its place"},
		plant{"ipc needs cgo", "ipc/c.go", imports("ipc", "C"), "standard library"},
		plant{"ipc imports an integration", "ipc/conn/grpc.go", imports("conn", modulePath+"/integrations/grpc"), "ipc may import []"},
		plant{"an integration imports the model", "integrations/x/x.go", imports("x", modulePath+"/model"), "nobody else has to take"},
		plant{"a tree that nobody planned", "util/util.go", imports("util", "fmt"), "no row"},
	)
}

func TestUnsafeStaysInItsFiles(t *testing.T) {
	const text = "package ipc\n\nimport \"unsafe\"\n\nvar p unsafe.Pointer\n"
	enforce(t, unsafeStaysInItsFiles,
		plant{"in the ring", "ipc/ring.go", text, "ipc/ring.go:3"},
		plant{"in a file that is only called so", "ipc/sub/layout.go", text, "ipc/sub/layout.go:3"},
		plant{"outside of ipc", "chaos/peek.go", text, "chaos/peek.go:3"},
		plant{"only called as if protoc had made it", "ipc/ring.pb.go", text, "ipc/ring.pb.go:3"},
	)
}

func TestSynchronisationsHaveBothEnds(t *testing.T) {
	enforce(t, synchronisationsHaveBothEnds,
		plant{"a store that nobody loads", "ipc/ring.go", "package ipc\n\nfunc f() {\n\tw.Store(1) // pairs: lonely-store\n}\n", "lonely-store is one-sided"},
		plant{"two loads", "ipc/ring.go", "package ipc\n\nfunc f() {\n\tw.Load() // pairs: unwritten\n\tw.Load() // pairs: unwritten\n}\n", "unwritten is one-sided"},
		plant{"a name misspelt at one end", "ipc/ring.go",
			"package ipc\n\nfunc f() {\n\t// pairs: message-publishd\n\tw.Store(1)\n}\n", "message-publishd is one-sided"},
		plant{"a line that is neither", "ipc/ring.go", "package ipc\n\nvar x = 1 // pairs: message-published\n", "neither stores nor loads"},
		plant{"no name", "ipc/ring.go", "package ipc\n\nvar x = 1 // pairs: with the other one\n", "no name"},
	)
}

func TestEveryErrorIsInTheProtocol(t *testing.T) {
	enforce(t, errorsAreInTheProtocol,
		plant{"a new variable", "ipc/more.go", "package ipc\n\nvar ErrOther = errors.New(\"other\")\n", "ErrOther"},
		plant{"a new type", "ipc/more.go", "package ipc\n\ntype OtherError struct{}\n", "OtherError"},
		plant{"only a longer name is there", "ipc/more.go", "package ipc\n\nvar ErrFul = ErrFull\n", "ErrFul "},
		plant{"no document", "docs/PROTOCOL.md", "", "missing"},
	)
}

func TestFilesAndFunctionsAreShort(t *testing.T) {
	enforce(t, filesAndFunctionsAreShort,
		plant{"a long file", "ipc/sub/long.go", "package sub\n" + strings.Repeat("\n", fileLines-1), "ipc/sub/long.go has 400 lines"},
		plant{"a long function", "ipc/long.go", "package ipc\n\nfunc (r ring) long() {\n" + strings.Repeat("\tf()\n", functionLines-2) + "}\n", "ipc/long.go:long has 60 lines"},
	)
}

func TestNoTestSleepsUntilSomethingHasHappened(t *testing.T) {
	enforce(t, testsDoNotSleep,
		plant{"a sleep", "ipc/late_test.go", "package ipc\n\nfunc f() {\n\ttime.Sleep(1)\n}\n", "ipc/late_test.go:4"},
		plant{"a reason elsewhere", "ipc/late_test.go", "package ipc\n\nfunc f() {\n\t// sleep: not here\n\ttime.Sleep(1)\n}\n", "ipc/late_test.go:5"},
		plant{"no reason given", "chaos/late_test.go", "package chaos\n\nfunc f() {\n\ttime.Sleep(1) // sleep:\n}\n", "chaos/late_test.go:4"},
		plant{"by another name", "ipc/late_test.go", "package ipc\n\nvar nap = time.Sleep\n", "ipc/late_test.go:3"},
	)
}

func TestNothingNamesOneMachine(t *testing.T) {
	enforce(t, nothingNamesOneMachine,
		plant{"a path in a document", "docs/HOW.md", "See " + "/home" + "/me/tandem.\n", "docs/HOW.md:1"},
		plant{"a path in code", "ipc/path.go", "package ipc\n\nconst p = \"" + "/work" + "/x\"\n", "ipc/path.go:3"},
		plant{"a path at the start of a line", "ci/x.sh", "\n" + "/root" + "/x\n", "ci/x.sh:2"},
		plant{"a registry", "ci/x.sh", "GOPROXY=https://" + "proxy.golang" + ".org\n", "ci/x.sh:1"},
		plant{"another registry", "pom.xml", "<url>https://" + "repo.maven" + ".apache.org/maven2</url>\n", "pom.xml:1"},
	)
}

func TestEveryPackageHasOneComment(t *testing.T) {
	enforce(t, packagesHaveOneComment,
		plant{"two", "ipc/second.go", "// Package ipc is explained twice.\npackage ipc\n", "have 2"},
		plant{"none", "internal/bare/bare.go", "package bare\n", "have 0"},
		plant{"none where only tests are", "tla/tla_test.go", "package tla\n", "have 0"},
		plant{"about something else", "internal/bare/bare.go", "// Bare is a package.\npackage bare\n", "does not begin"},
	)
}

func TestOtherSystemsAreToldThatTheyAreNotSupported(t *testing.T) {
	enforce(t, otherSystemsAreTold,
		plant{"another error", "ipc/other.go", "//go:build !linux\n\npackage ipc\n\nvar errSystem = errors.New(\"no\")\n", "ErrUnsupported"},
		plant{"no such file", "ipc/other.go", "", "ErrUnsupported"},
	)
}

func TestEveryDependencyHasAReason(t *testing.T) {
	module := string(sound()["go.mod"].Data)
	enforce(t, dependenciesAreWanted,
		plant{"one more in the block", "go.mod", strings.Replace(module, "require (", "require (\n\texample.com/log v1.0.0", 1), "example.com/log"},
		plant{"one more on its own", "go.mod", module + "require example.com/log v1.0.0\n", "example.com/log"},
		plant{"gRPC", "go.mod", module + "require google.golang.org/grpc v1.80.0 // indirect\n", "under integrations"},
		plant{"a replacement", "go.mod", module + "replace example.com/log => ../log\n", "replace"},
		plant{"a tool", "go.mod", module + "tool (\n\texample.com/lint\n)\n", "tool"},
		plant{"no module", "go.mod", "", "missing"},
	)
}

func TestEveryEntranceLeadsToTheChecks(t *testing.T) {
	enforce(t, everyEntranceLeadsToTheChecks,
		plant{"the README forgets the demo", "README.md", "Run `ci/check.sh`.\n", "tandem demo"},
		plant{"the README forgets the checks", "README.md", "Run `go run ./cmd/tandem demo`.\n", "README.md does not say \"ci/check.sh\""},
		plant{"the workflow has its own steps", ".github/workflows/check.yml", "run: go test ./...\n", ".github/workflows/check.yml"},
		plant{"no entrance", ".ci/run", "", ".ci/run is missing"},
		plant{"a script that cannot run", "ci/tlc.sh", "#!/bin/sh\n", "ci/tlc.sh is a script"},
	)
}

func TestEveryAnswerToAnAnalyserHasAReason(t *testing.T) {
	answer := func(path, rule, why string) string {
		return `{"exclude-rules": [{"path": "` + path + `", "rules": ["` + rule + `"], "why": "` + why + `"}]}`
	}
	const why = "what is drawn is drawn again from its seed"
	enforce(t, answersHaveReasons,
		plant{"no reason", answers, answer("/(chaos|cmd)/", "G404", "fine"), "no reason"},
		plant{"every rule", answers, answer("/(chaos|cmd)/", "*", why), "no rule, or for all"},
		plant{"every file", answers, answer(".*", "G404", why), "no directory"},
		plant{"another way out", answers, `{"exclude": []}`, "not for answers"},
		plant{"no answers", answers, "", "missing"},
	)
}

// A plant is one file that breaks a law in a tree that was sound. No text
// means that the file is taken away.
type plant struct {
	name, path, text string
	want             string // in what the law says
}

// enforce holds the repository to a law, after it has shown that the law lets
// a sound tree pass, finds each plant, and does not pass on an empty tree.
func enforce(t *testing.T, check law, plants ...plant) {
	t.Helper()
	if len(plants) == 0 {
		t.Fatal("a law without a plant was never seen to fail")
	}
	if broken, looked := check(sound()); len(broken) > 0 || looked == 0 {
		t.Fatalf("the sound tree does not pass: looked at %d, found %q", looked, broken)
	}
	if broken, looked := check(tree{}); len(broken) == 0 && looked > 0 {
		t.Fatalf("the law looked at %d things where there are none", looked)
	}
	for _, plant := range plants {
		t.Run("planted/"+plant.name, func(t *testing.T) {
			files := maps.Clone(sound())
			delete(files, plant.path)
			if plant.text != "" {
				files[plant.path] = &fstest.MapFile{Data: []byte(plant.text), Mode: 0o644}
			}
			broken, _ := check(files)
			if len(broken) != 1 || !strings.Contains(broken[0], plant.want) {
				t.Errorf("found %q, want one finding with %q", broken, plant.want)
			}
		})
	}
	t.Run("repository", func(t *testing.T) {
		broken, looked := check(readRepository(t))
		for _, finding := range broken {
			t.Error(finding)
		}
		if looked == 0 {
			t.Error("nothing to look at: the law is blind")
		}
		t.Logf("looked at %d", looked)
	})
}

// sound is a tree as small as one can be that breaks no law.
func sound() tree {
	files := tree{}
	for path, text := range map[string]string{
		"go.mod":                      "module " + modulePath + "\n\ngo 1.26\n\nrequire (\n\tgolang.org/x/sys v0.1.0\n\texample.com/far v1.0.0 // indirect\n)\n",
		"README.md":                   "Run `go run ./cmd/tandem demo`, then `ci/check.sh`.\n\n| L1 SingleServer | at most one |\n",
		"CONTRIBUTING.md":             "Run `ci/check.sh`; a path such as ${tmp}/home/x is yours.\n",
		".ci/run":                     "#!/bin/sh\nexec ci/check.sh\n",
		".github/workflows/check.yml": "run: ci/check.sh\n",
		"ci/check.sh":                 "#!/bin/sh\ngo test ./...\ngo run ./cmd/tandem demo -json\n",
		answers:                       `{"exclude-rules": [{"path": "/(chaos|cmd)/", "rules": ["G404"], "why": "what is drawn is drawn again from its seed"}]}`,
		"ci/repo_test.go":             "// Package ci has only tests.\npackage ci\n",
		"docs/DESIGN.md":              "| rule | what | without it |\n",
		"docs/SECURITY.md":            "| attack | by | outcome | test |\n|---|---|---|---|\n| scribbles | client | dropped | `TestLaw` |\n",
		failures:                      "| it dies | what | test |\n|---|---|---|\n| it dies | `ErrFull`, `*CorruptError`, `net.OpError` | `TestLaw` |\n",
		"ci/law_test.go":              "package ci\n\nfunc TestLaw(t *testing.T) {}\n",
		"docs/PROTOCOL.md":            "# What can fail?\n\nSee [here](#what-can-fail), [there](../ipc/doc.go) and [far](https://example.com/gone).\n\n`ErrFull`: try again. `*CorruptError`: the peer is dropped.\n",
		"ipc/doc.go":                  "// Package ipc is small.\npackage ipc\n",
		"ipc/errors.go":               "package ipc\n\nimport \"errors\"\n\nvar ErrFull = errors.New(\"full\")\n\ntype CorruptError struct{}\n",
		"ipc/layout.go": "package ipc\n\nimport (\n\t\"unsafe\"\n\n\t\"" + modulePath + "/internal/step\"\n)\n\nvar p unsafe.Pointer\n\n" +
			"func publish() {\n\tw.Store(1) // pairs: message-published\n}\n\nfunc peek() {\n\t// pairs: message-published, late (load)\n\tw.Load()\n\tset(1) // pairs: late (store)\n}\n",
		"ipc/layout_test.go":    "package ipc\n\nimport \"pgregory.net/rapid\"\n\nfunc f() {\n\ttime.Sleep(1) // sleep: longer than the timeout\n}\n",
		"ipc/futex.go":          "package ipc\n\nimport _ \"golang.org/x/sys/unix\"\n",
		"ipc/promise_test.go":   "package ipc\n\nfunc TestL3L1BothHold(t *testing.T) {}\n",
		"ipc/other.go":          "//go:build !linux\n\npackage ipc\n\nvar errSystem = errors.ErrUnsupported\n",
		workerPromises:          "// Package worker works.\n//\n//   - Answer: it is.\n//   - Blame: it is right.\npackage worker\n",
		workerCampaign:          "package worker\n\nvar promises = []string{\"Answer\", \"Blame\"}\n",
		workerBugs:              "package worker\n\nimport _ \"" + modulePath + "/" + planter + "\"\n\nvar plantedBugs = []planted{\n\t{\"lost\", \"Law\"},\n\t{\"blamed\", \"Law\"},\n}\n",
		promiseTable:            promisesHead + "\n|---|---|---|---|\n| Answer | all | `TestLaw` | *lost* |\n| Blame | all | `TestLaw` | *blamed* |\n",
		"internal/step/step.go": "// Package step names.\npackage step\n",
		"model/model.go":        "// Package model is right.\npackage model\n\nimport \"fmt\"\n",
		"chaos/chaos.go":        "// Package chaos breaks.\npackage chaos\n\nimport (\n\t\"" + modulePath + "/ipc\"\n\t\"" + modulePath + "/model\"\n)\n",
		"cmd/tandem/main.go":    "// Tandem shows.\npackage main\n\nimport \"" + modulePath + "/chaos\"\n",
	} {
		mode := fs.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		files[path] = &fstest.MapFile{Data: []byte(text), Mode: mode}
	}
	return files
}
