//go:build linux && (amd64 || arm64)

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
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
	results, made := map[string]error{}, 0
	err := thumbnails(context.Background(), config, pictures, func(name string, small []byte, err error) {
		mu.Lock()
		defer mu.Unlock()
		results[name] = err
		if err == nil {
			made++
			checkThumbnail(t, name, small)
		}
		if len(results)%10 == 9 {
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
	t.Logf("%d kills", k.kills)
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
