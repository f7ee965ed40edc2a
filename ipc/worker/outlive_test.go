//go:build linux && (amd64 || arm64)

package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// The service of these tests is a process that is killed while its worker is in a
// handler, which waits for a file, and for a second one once it has noticed that, and then writes
// another.
var (
	_ = part("service that is outlived", func() {
		p, err := Start(context.Background(), Config{Outlive: true, Output: io.Discard, Dir: os.Getenv("TANDEM_TEST_DIR"), Command: func() *exec.Cmd {
			cmd := Self()()
			cmd.Env = append(os.Environ(), partVariable+"="+os.Getenv("TANDEM_TEST_WORKER"))
			cmd.Stdout = os.Stdout // the test's
			return cmd
		}})
		leave(err)
		_, err = p.Call(context.Background(), "finish", []byte(os.Getenv("TANDEM_TEST_DIR")))
		leave(err)
	})
	_ = part("drains", func() { finish(Drain(watchdog)) })
	_ = part("drains briefly", func() { finish(Drain(20 * time.Millisecond)) })
	_ = part("leaves at once", func() { finish() })
)

func finish(options ...ServeOption) {
	err := Serve(context.Background(), Handlers{"finish": func(ctx context.Context, r *Request) ([]byte, error) {
		fmt.Println("begun")
		dir := string(r.Data)
		if err := untilFile(ctx, filepath.Join(dir, "gate")); err != nil {
			return nil, err
		}
		_, err := Ask(ctx, "nobody", nil)
		if err := os.WriteFile(filepath.Join(dir, "noticed"), nil, 0o600); err != nil {
			return nil, err
		}
		if err := untilFile(ctx, filepath.Join(dir, "second gate")); err != nil {
			return nil, err
		}
		fmt.Fprintln(os.Stderr, "whose reader has gone")
		return nil, os.WriteFile(filepath.Join(dir, "finished"), fmt.Append(nil, errors.Is(err, ipc.ErrPeerDied)), 0o600)
	}}, options...)
	fmt.Println("left", errors.Is(err, ipc.ErrPeerDied))
}

// outlived starts a service and kills it in the middle of a call. It returns its
// directory, and a function that waits for the worker's end and returns what it has written.
func outlived(t *testing.T, worker string) (dir string, end func() string) {
	dir = t.TempDir()
	cmd := command(t, "service that is outlived")()
	cmd.Env = append(cmd.Env, "TANDEM_TEST_WORKER="+worker, "TANDEM_TEST_DIR="+dir)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		open(t, dir) // whatever has failed, the worker ends
		openSecond(t, dir)
		_ = reader.Close()
	})
	cmd.Stdout = writer
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = writer.Close()
	buffer := make([]byte, 64)
	n, err := reader.Read(buffer)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err != nil || !strings.HasPrefix(string(buffer[:n]), "begun") {
		t.Fatalf("%q, %v", buffer[:n], err)
	}
	return dir, func() string {
		_ = reader.SetReadDeadline(time.Now().Add(watchdog))
		rest, err := io.ReadAll(reader) // the worker alone holds the other end
		if err != nil {
			t.Errorf("the worker lives: %q, %v", rest, err)
		}
		return string(rest)
	}
}

// The second gate is for a worker that has noticed its service's end.
func openSecond(t *testing.T, dir string) {
	if err := os.WriteFile(filepath.Join(dir, "second gate"), nil, 0o600); err != nil {
		t.Error(err)
	}
}

func open(t *testing.T, dir string) {
	if err := os.WriteFile(filepath.Join(dir, "gate"), nil, 0o600); err != nil {
		t.Error(err)
	}
}

func TestAWorkerThatOutlivesItsServiceEndsWhatItHasBegun(t *testing.T) {
	dir, end := outlived(t, "drains")
	// The next service has to wait: never do workers of two services work in one directory.
	_, err := Start(context.Background(), Config{Command: command(t, "serve"), Dir: dir})
	wantErrors(t, err, []error{ipc.ErrClientRunning})
	open(t, dir)
	ctx, cancel := context.WithTimeout(context.Background(), watchdog)
	defer cancel()
	if err := untilFile(ctx, filepath.Join(dir, "noticed")); err != nil {
		t.Fatal(err)
	}
	openSecond(t, dir)
	if got := end(); got != "left true\n" {
		t.Errorf("it says %q", got)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "finished")); err != nil || string(text) != "true" {
		t.Errorf("what it finished: %q, %v", text, err)
	}
	p, _ := startPool(t, Config{Dir: dir})
	mustCall(t, p, "echo", "")
}

func TestAWorkerDrainsOnlySoLong(t *testing.T) {
	for _, worker := range []string{"drains briefly", "leaves at once"} {
		t.Run(worker, func(t *testing.T) {
			dir, end := outlived(t, worker)
			if got := end(); got != "left true\n" {
				t.Errorf("it says %q", got)
			}
			if _, err := os.Stat(filepath.Join(dir, "finished")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("it has finished: %v", err)
			}
		})
	}
}
