package ci

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A law says what in a tree breaks it, and how many things it looked at. One
// that looked at nothing has shown nothing.
type law func(files tree) (broken []string, looked int)

const modulePath = "github.com/tandem-ipc/tandem"

// A layer is what a tree of packages may import of ours, besides itself.
type layer struct {
	imports []string
	why     string
}

// layers is the order of the house: cmd -> chaos -> {ipc, model}.
var layers = map[string]layer{
	"ipc":   {nil, "users import it, so it brings nothing along; and what it does cannot depend on who judges it"},
	"model": {nil, "it says what is right, so it owes nothing to the code that it judges"},
	"tla":   {nil, "it runs the model checker on the specification, and knows no code"},
	"ci":    {nil, "it reads the tree as text, so that it works when nothing compiles"},
	"chaos": {[]string{"ipc", "model", "internal"}, "it breaks the one and judges by the other; commands are built on it"},
	"cmd":   {[]string{"ipc", "model", "chaos", "internal"}, "nobody imports a command, and tests and specifications are no part of one"},
	"internal": {[]string{"ipc"},
		"what commands and tests share; it is below the judges"},
	"examples": {[]string{"ipc"}, "an example shows what a user can import"},
	"bench":    {[]string{"ipc", "internal"}, "the evaluation measures what a user gets"},
	"integrations": {[]string{"ipc"},
		"modules of their own: what they bring along, nobody else has to take"},
}

// outside is what the packages under ipc may import that is neither ours nor the
// standard library's: where, and the reason.
var outside = map[string]struct{ under, why string }{
	"golang.org/x/sys/unix":          {"ipc/", "memfd, seals, OFD locks and pidfds are not in the standard library"},
	"github.com/cenkalti/backoff/v5": {"ipc/worker/", "the pauses between the starts of a worker that dies at once"},
}

// steps is what ipc may import of ours: the names of its steps, which are not for users.
const steps = "internal/step"

// planter is what every test may import: it plants bugs, knows no code, and is in
// nothing that is shipped.
const planter = "internal/plant"

func importsPointOneWay(files tree) (broken []string, looked int) {
	parsed, broken := goFiles(files, anywhere)
	for _, file := range parsed {
		from, known := layers[top(file.path)]
		if !known {
			broken = append(broken, fmt.Sprintf("%s: the tree %q has no row in layers, so nobody knows what it may import", file.path, top(file.path)))
			continue
		}
		for _, spec := range file.syntax.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			looked++
			where := fmt.Sprintf("%s:%d: imports %s", file.path, file.line(spec.Pos()), imported)
			if ours, found := strings.CutPrefix(imported, modulePath+"/"); found {
				if ours == planter && strings.HasSuffix(file.path, "_test.go") {
					continue
				}
				if ours == steps && top(file.path) == "ipc" {
					continue
				}
				if inCore(file.path) {
					broken = append(broken, where+", but package ipc is built on nothing of ours: what is built on it can bring along what it needs")
				} else if to := top(ours); to != top(file.path) && !slices.Contains(from.imports, to) {
					broken = append(broken, fmt.Sprintf("%s, but %s may import %v: %s", where, top(file.path), from.imports, from.why))
				}
				continue
			}
			standard := imported != "C" && !strings.Contains(top(imported), ".")
			allowed, known := outside[imported]
			if inIPC(file.path) && !standard && !(known && strings.HasPrefix(file.path, allowed.under)) {
				broken = append(broken, fmt.Sprintf("%s, but ipc may import the standard library and, each in its place, %v",
					where, slices.Sorted(maps.Keys(outside))))
			}
		}
	}
	return broken, looked
}

// unsafeFiles are the files that turn bytes into words and back. A reader who trusts
// them need not look for wild pointers anywhere else.
var unsafeFiles = regexp.MustCompile(`^(ipc/(layout|segment|futex)[^/]*|internal/measure/memory)\.go$`)

// madeByProtoc are files that nobody writes. They turn their own constants into bytes.
var madeByProtoc = regexp.MustCompile(`^integrations/.*\.pb\.go$`)

func unsafeStaysInItsFiles(files tree) (broken []string, looked int) {
	parsed, broken := goFiles(files, isShipped)
	for _, file := range parsed {
		for _, spec := range file.syntax.Imports {
			if spec.Path.Value != `"unsafe"` || madeByProtoc.MatchString(file.path) {
				continue
			}
			looked++
			if !unsafeFiles.MatchString(file.path) {
				broken = append(broken, fmt.Sprintf("%s:%d: unsafe is for %v only", file.path, file.line(spec.Pos()), unsafeFiles))
			}
		}
	}
	return broken, looked
}

// A tag is `// pairs: NAME`, or several names with commas, at the end of the
// line that stores or loads, or alone on the line before. Prose may follow
// behind a full stop. Where the line does not show which side it is, the name is
// followed by (store) or (load).
var (
	tagComment = regexp.MustCompile(`// pairs: ([^.]+)`)
	tagName    = regexp.MustCompile(`^([a-z]+(?:-[a-z]+)*)(?: \((store|load)\))?$`)
	storeSide  = regexp.MustCompile(`(?i)(store|swap|\.add|\.or|\.and)\w*\(`)
	loadSide   = regexp.MustCompile(`(?i)load\w*\(`)
)

func synchronisationsHaveBothEnds(files tree) (broken []string, looked int) {
	type ends struct{ stores, loads []string }
	tags := map[string]*ends{}
	for _, path := range sortedPaths(files) {
		if !inIPC(path) || !strings.HasSuffix(path, ".go") {
			continue
		}
		lines := linesOf(files[path].Data)
		for i, line := range lines {
			comment := tagComment.FindStringSubmatchIndex(line)
			if comment == nil {
				continue
			}
			where := fmt.Sprintf("%s:%d", path, i+1)
			code := line[:comment[0]]
			if strings.TrimSpace(code) == "" && i+1 < len(lines) {
				code = lines[i+1]
			}
			for name := range strings.SplitSeq(line[comment[2]:comment[3]], ",") {
				parts := tagName.FindStringSubmatch(strings.TrimSpace(name))
				if parts == nil {
					broken = append(broken, fmt.Sprintf("%s: %q is no name of a synchronisation", where, name))
					continue
				}
				looked++
				tag := tags[parts[1]]
				if tag == nil {
					tag = &ends{}
					tags[parts[1]] = tag
				}
				stores := parts[2] == "store" || parts[2] == "" && storeSide.MatchString(code)
				loads := parts[2] == "load" || parts[2] == "" && loadSide.MatchString(code)
				if stores {
					tag.stores = append(tag.stores, where)
				}
				if loads {
					tag.loads = append(tag.loads, where)
				}
				if !stores && !loads {
					broken = append(broken, fmt.Sprintf("%s: the line neither stores nor loads; say (store) or (load) behind %s", where, parts[1]))
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(tags)) {
		if tag := tags[name]; len(tag.stores) == 0 || len(tag.loads) == 0 {
			broken = append(broken, fmt.Sprintf("synchronisation %s is one-sided: stores %v, loads %v", name, tag.stores, tag.loads))
		}
	}
	return broken, looked
}

// errorsAreInTheProtocol holds for ErrX variables and XError types of ipc.
func errorsAreInTheProtocol(files tree) (broken []string, looked int) {
	const document = "docs/PROTOCOL.md"
	protocol, found := files[document]
	if !found {
		return []string{document + " is missing: it is where every exported error is explained"}, 0
	}
	parsed, broken := goFiles(files, inCore)
	for _, file := range parsed {
		for _, name := range exportedErrors(file.syntax) {
			looked++
			if !regexp.MustCompile(`\b` + name.Name + `\b`).Match(protocol.Data) {
				broken = append(broken, fmt.Sprintf("%s:%d: %s does not say when %s comes, and what to do", file.path, file.line(name.Pos()), document, name.Name))
			}
		}
	}
	return broken, looked
}

func exportedErrors(syntax *ast.File) (names []*ast.Ident) {
	for _, declaration := range syntax.Decls {
		general, ok := declaration.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range general.Specs {
			switch spec := spec.(type) {
			case *ast.ValueSpec:
				for _, name := range spec.Names {
					if general.Tok == token.VAR && strings.HasPrefix(name.Name, "Err") {
						names = append(names, name)
					}
				}
			case *ast.TypeSpec:
				if spec.Name.IsExported() && strings.HasSuffix(spec.Name.Name, "Error") {
					names = append(names, spec.Name)
				}
			}
		}
	}
	return names
}

// The sizes under which a file and a function of ipc can be read at once.
const (
	fileLines     = 400
	functionLines = 60
)

// long holds what may be longer, as path or path:function, each with the reason.
var long = map[string]string{}

func filesAndFunctionsAreShort(files tree) (broken []string, looked int) {
	parsed, broken := goFiles(files, inIPC)
	excused := map[string]bool{}
	judge := func(name string, lines, limit int) {
		looked++
		if lines < limit {
			return
		}
		if long[name] == "" {
			broken = append(broken, fmt.Sprintf("%s has %d lines: divide it, or give its reason in long", name, lines))
		}
		excused[name] = true
	}
	for _, file := range parsed {
		judge(file.path, len(file.lines), fileLines)
		for _, declaration := range file.syntax.Decls {
			if function, ok := declaration.(*ast.FuncDecl); ok {
				lines := file.line(function.End()) - file.line(function.Pos()) + 1
				judge(file.path+":"+function.Name.Name, lines, functionLines)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(long)) {
		if files[beforeColon(name)] != nil && !excused[name] {
			broken = append(broken, name+" is no longer long: take it out of the exceptions")
		}
	}
	return broken, looked
}

func beforeColon(name string) string {
	before, _, _ := strings.Cut(name, ":")
	return before
}

// testsDoNotSleep allows a sleep that is the subject of its test, with its
// reason on the line.
func testsDoNotSleep(files tree) (broken []string, looked int) {
	parsed, broken := goFiles(files, isTest)
	reason := regexp.MustCompile(`^// sleep: \w+`)
	for _, file := range parsed {
		looked++
		excused := map[int]bool{}
		for _, group := range file.syntax.Comments {
			for _, comment := range group.List {
				if reason.MatchString(comment.Text) {
					excused[file.line(comment.Pos())] = true
				}
			}
		}
		ast.Inspect(file.syntax, func(node ast.Node) bool {
			selector, ok := node.(*ast.SelectorExpr)
			if !ok || selector.Sel.Name != "Sleep" {
				return true
			}
			if of, ok := selector.X.(*ast.Ident); !ok || of.Name != "time" {
				return true
			}
			if line := file.line(selector.Pos()); !excused[line] {
				broken = append(broken, fmt.Sprintf("%s:%d: wait for the state itself, or say `// sleep: why` on this line", file.path, line))
			}
			return true
		})
	}
	return broken, looked
}

// elsewhere matches what exists on one machine only, or ties a build to one
// package registry. It is put together so as not to match itself.
var elsewhere = regexp.MustCompile(`(?:^|[^\w.})-])/(?:work|root|home)/` + `|\b(?:` + strings.Join([]string{
	`proxy\.golang`, `sum\.golang`, `goproxy`, `npmjs`, `pypi`, `pythonhosted`, `crates`,
	`repo1\.maven`, `repo\.maven`, `deb\.debian`, `security\.debian`, `archive\.ubuntu`, `docker`,
}, "|") + `)\.(?:org|io|cn|com|apache\.org)\b`)

func nothingNamesOneMachine(files tree) (broken []string, looked int) {
	for _, path := range sortedPaths(files) {
		text := files[path].Data
		if bytes.IndexByte(text, 0) >= 0 {
			continue // not text
		}
		looked++
		for i, line := range linesOf(text) {
			if found := elsewhere.FindString(line); found != "" {
				broken = append(broken, fmt.Sprintf("%s:%d: %q is not the same everywhere", path, i+1, found))
			}
		}
	}
	return broken, looked
}

func packagesHaveOneComment(files tree) (broken []string, looked int) {
	parsed, broken := goFiles(files, func(path string) bool { return !strings.Contains(path, "testdata/") })
	// A package that only tests has its comment in a test.
	shipped := map[string]bool{}
	for _, file := range parsed {
		if !file.isTest() {
			shipped[path.Dir(file.path)] = true
		}
	}
	comments := map[string][]string{}
	for _, file := range parsed {
		directory := path.Dir(file.path)
		if shipped[directory] && file.isTest() {
			continue
		}
		if _, known := comments[directory]; !known {
			comments[directory] = nil
		}
		name := file.syntax.Name.Name
		if text := file.syntax.Doc.Text(); text != "" {
			comments[directory] = append(comments[directory], file.path)
			if name != "main" && !strings.HasPrefix(text, "Package "+name+" ") {
				broken = append(broken, fmt.Sprintf("%s: the package comment does not begin with %q", file.path, "Package "+name))
			}
		}
	}
	for _, directory := range slices.Sorted(maps.Keys(comments)) {
		looked++
		if in := comments[directory]; len(in) != 1 {
			broken = append(broken, fmt.Sprintf("%s: want one package comment, have %d: %v", directory, len(in), in))
		}
	}
	return broken, looked
}

// otherSystemsAreTold holds that package ipc has a file for the systems that
// it does not support, and that it says so in the standard library's words.
// ci/check.sh builds it there.
func otherSystemsAreTold(files tree) (broken []string, looked int) {
	constraint := regexp.MustCompile(`(?m)^//go:build .*!\(?linux`)
	for _, path := range sortedPaths(files) {
		if !inCore(path) || !constraint.Match(files[path].Data) {
			continue
		}
		looked++
		if bytes.Contains(files[path].Data, []byte("errors.ErrUnsupported")) {
			return nil, looked
		}
	}
	return []string{"no file of ipc for systems other than Linux returns errors.ErrUnsupported"}, looked
}

// direct is what go.mod may require directly, each with its user.
var direct = map[string]string{
	"github.com/cenkalti/backoff/v5":          "ipc/worker: the pauses between starts, with jitter",
	"github.com/HdrHistogram/hdrhistogram-go": "cmd: the times of single round trips, in the format that others read too",
	"gonum.org/v1/plot":                       "cmd: the pictures of tandem bench",
	"golang.org/x/sys":                        "ipc: the system calls that the standard library lacks",
	"golang.org/x/net":                        "tests: what a net.Conn must do",
	"golang.org/x/term":                       "cmd: is the output a terminal, and how wide",
	"github.com/schollz/progressbar/v3":       "cmd: the live line of the demo",
	"pgregory.net/rapid":                      "tests: properties against a model",
	"github.com/anishathalye/porcupine":       "chaos: linearizability of recorded histories",
}

// apart is what only the modules under integrations and bench require, directly or not.
var apart = []string{"google.golang.org/", "github.com/hashicorp/", "gvisor.dev/", "github.com/go-zeromq/"}

// dependenciesAreWanted reads go.mod as text. Each direct requirement enters
// the module graph of everybody who imports ipc.
func dependenciesAreWanted(files tree) (broken []string, looked int) {
	module, found := files["go.mod"]
	if !found {
		return []string{"go.mod is missing"}, 0
	}
	block := ""
	for i, line := range linesOf(module.Data) {
		text, comment, _ := strings.Cut(line, "//")
		words := strings.Fields(text)
		switch {
		case len(words) == 0:
			continue
		case words[0] == ")":
			block = ""
			continue
		case len(words) == 2 && words[1] == "(":
			block = words[0]
			continue
		case block != "":
			words = append([]string{block}, words...)
		}
		where := fmt.Sprintf("go.mod:%d", i+1)
		switch words[0] {
		case "require":
			looked++
			if strings.TrimSpace(comment) != "indirect" && direct[words[1]] == "" {
				broken = append(broken, fmt.Sprintf("%s: %s has no reason to be here in direct", where, words[1]))
			}
			if slices.ContainsFunc(apart, func(prefix string) bool { return strings.HasPrefix(words[1], prefix) }) {
				broken = append(broken, fmt.Sprintf("%s: %s is for a module under integrations or bench, so that importers of ipc do not get it", where, words[1]))
			}
		case "replace", "exclude":
			broken = append(broken, fmt.Sprintf("%s: go install PACKAGE@VERSION refuses a module with %s", where, words[0]))
		case "tool":
			broken = append(broken, fmt.Sprintf("%s: a tool enters the module graph of all importers: run it at a version in ci/check.sh", where))
		}
	}
	return broken, looked
}

// entrances says, by file, which commands lead from there to the checks.
var entrances = map[string][]string{
	"README.md":                   {"go run ./cmd/tandem demo", "ci/check.sh"},
	"CONTRIBUTING.md":             {"ci/check.sh"},
	".ci/run":                     {"ci/check.sh"},
	".github/workflows/check.yml": {"ci/check.sh"},
	"ci/check.sh":                 {"go run ./cmd/tandem demo", "go test"},
}

func everyEntranceLeadsToTheChecks(files tree) (broken []string, looked int) {
	for _, path := range slices.Sorted(maps.Keys(entrances)) {
		file, found := files[path]
		if !found {
			broken = append(broken, path+" is missing")
			continue
		}
		looked++
		for _, command := range entrances[path] {
			if !bytes.Contains(file.Data, []byte(command)) {
				broken = append(broken, fmt.Sprintf("%s does not say %q", path, command))
			}
		}
	}
	for _, path := range sortedPaths(files) {
		if script := files[path]; bytes.HasPrefix(script.Data, []byte("#!")) {
			looked++
			if script.Mode&0o111 == 0 {
				broken = append(broken, path+" is a script and not executable")
			}
		}
	}
	return broken, looked
}

// answers is where findings of gosec are answered instead of corrected.
const answers = "ci/gosec.json"

// answersHaveReasons holds that each answer names its rules and its files, and why.
func answersHaveReasons(files tree) (broken []string, looked int) {
	file, found := files[answers]
	if !found {
		return []string{answers + " is missing"}, 0
	}
	var config map[string][]struct {
		Path, Why string
		Rules     []string
	}
	if err := json.Unmarshal(file.Data, &config); err != nil {
		return []string{answers + ": " + err.Error()}, 0
	}
	for key, rows := range config {
		if key != "exclude-rules" {
			broken = append(broken, fmt.Sprintf("%s: %s is not for answers", answers, key))
		}
		for i, row := range rows {
			looked++
			switch {
			case len(row.Why) < 20:
				broken = append(broken, fmt.Sprintf("%s: answer %d has no reason", answers, i+1))
			case len(row.Rules) == 0 || slices.Contains(row.Rules, "*"):
				broken = append(broken, fmt.Sprintf("%s: answer %d is for no rule, or for all", answers, i+1))
			case !regexp.MustCompile(`^/\(?[a-z|]+\)?/`).MatchString(row.Path):
				broken = append(broken, fmt.Sprintf("%s: answer %d is for no directory of ours", answers, i+1))
			}
		}
	}
	return broken, looked
}
