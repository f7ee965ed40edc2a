//go:build linux && (amd64 || arm64)

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"image"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/ipc/worker"
)

func TestMain(m *testing.M) {
	if worker.IsWorker() {
		if serve() != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// A killer kills a worker with every n-th result.
type killer struct {
	mu      sync.Mutex
	started map[int]*exec.Cmd // by process
	made    []*exec.Cmd
	kills   int
}

func (k *killer) command() *exec.Cmd {
	cmd := worker.Self()()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.made = append(k.made, cmd)
	return cmd
}

// note remembers which processes live. Their commands' handles are set before the event comes.
func (k *killer) note(event worker.Event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch event.Kind {
	case worker.EventStarted:
		for _, cmd := range k.made {
			if cmd.Process != nil && cmd.Process.Pid == event.PID {
				k.started[event.PID] = cmd
			}
		}
	case worker.EventEnded:
		delete(k.started, event.PID)
	}
}

func (k *killer) kill() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, cmd := range k.started {
		if cmd.Process.Kill() == nil {
			k.kills++
		}
		return
	}
}

func TestEverySoundPictureIsMadeAndEveryOtherOneNamedUnderKills(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	pictures := map[string][]byte{"panic": []byte("PANIC"), "exit": []byte("EXIT"), "hang": []byte("HANG"), "broken": []byte("no PNG")}
	const sound = 150
	for i := range sound {
		pictures[fmt.Sprintf("%d.png", i)] = picture(t, 40+i, 80)
	}
	k := &killer{started: map[int]*exec.Cmd{}}
	// One worker, so that its command is the only one that can be starting.
	config := worker.Config{
		Command: k.command, OnEvent: k.note, Output: io.Discard,
		Grace: 20 * time.Millisecond, MaxAttempts: 6, // kills look like the deeds of those whom they hit
	}
	var mu sync.Mutex
	results, made, most := map[string]error{}, 0, 0
	err := thumbnails(context.Background(), config, pictures, func(name string, small []byte, err error) {
		mu.Lock()
		defer mu.Unlock()
		results[name] = err
		if err == nil {
			made++
			checkThumbnail(t, name, small)
		}
		if len(results)%10 == 9 {
			most = max(most, len(processes(t)))
			k.kill()
		}
	})
	if err != nil {
		t.Error(err)
	}
	var remote *worker.RemoteError
	if !errors.Is(results["panic"], worker.ErrPoison) || !errors.Is(results["exit"], worker.ErrPoison) ||
		!errors.Is(results["hang"], context.DeadlineExceeded) || !errors.As(results["broken"], &remote) {
		t.Errorf("the others: panic %v, exit %v, hang %v, broken %v", results["panic"], results["exit"], results["hang"], results["broken"])
	}
	if made != sound || k.kills == 0 {
		t.Errorf("%d thumbnails of %d, %d kills", made, sound, k.kills)
	}
	for name, err := range results {
		if filepath.Ext(name) == ".png" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if left := processes(t); len(left) > 0 || most == 0 {
		t.Errorf("processes %v are left; %d were seen before", left, most)
	}
	t.Logf("%d kills", k.kills)
}

// processes are those that this test has started, and those that they have: all have its
// directory in their environment.
func processes(t *testing.T) (found []string) {
	environments, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range environments {
		environment, _ := os.ReadFile(file) // it may have ended
		if bytes.Contains(environment, []byte("TMPDIR="+os.Getenv("TMPDIR")+"\x00")) {
			found = append(found, file)
		}
	}
	return found
}

// What is written on top of package worker: the functions that serve and that call, whole, and
// each statement elsewhere that names the package. docs/GUIDE.md says how much it is.
func TestTheProgramIsThirtyLinesOnTopOfThePackage(t *testing.T) {
	files := token.NewFileSet()
	program, err := parser.ParseFile(files, "main.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	lines, whole := map[int]bool{}, 0
	count := func(node ast.Node) {
		for line := files.Position(node.Pos()).Line; line <= files.Position(node.End()).Line; line++ {
			lines[line] = true
		}
	}
	var path []ast.Node
	ast.Inspect(program, func(node ast.Node) bool {
		if node == nil {
			path = path[:len(path)-1]
			return true
		}
		path = append(path, node)
		switch n := node.(type) {
		case *ast.ImportSpec:
			if n.Path.Value == `"github.com/tandem-ipc/tandem/ipc/worker"` {
				count(n)
			}
		case *ast.FuncDecl:
			if n.Name.Name == "serve" || n.Name.Name == "thumbnails" {
				count(n)
				whole++
			}
		case *ast.Ident:
			if n.Name == "worker" {
				for _, around := range slices.Backward(path) {
					if statement, ok := around.(ast.Stmt); ok {
						count(statement)
						break
					}
				}
			}
		}
		return true
	})
	if len(lines) > 30 || whole != 2 {
		t.Errorf("%d lines, want at most 30; %d functions of 2", len(lines), whole)
	}
	if library, err := os.ReadFile("thumbnail.go"); err != nil || bytes.Contains(library, []byte("tandem")) {
		t.Errorf("what makes the thumbnails knows the package: %v", err)
	}
	t.Logf("%d lines", len(lines))
}

func picture(t *testing.T, width, height int) []byte {
	var out bytes.Buffer
	if err := png.Encode(&out, image.NewGray(image.Rect(0, 0, width, height))); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func checkThumbnail(t *testing.T, name string, data []byte) {
	made, err := png.Decode(bytes.NewReader(data))
	if err != nil || made.Bounds().Dx() > small || made.Bounds().Dy() > small {
		t.Errorf("%s: %v, %v", name, made, err)
	}
}

func TestTheCommandWritesThumbnails(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	file := filepath.Join(from, "a.png")
	if err := os.WriteFile(file, picture(t, 100, 50), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(to, []string{file}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(to, "small-a.png"))
	if err != nil {
		t.Fatal(err)
	}
	checkThumbnail(t, file, data)
}
