//go:build linux && (amd64 || arm64)

package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// A sort of call of the machine, with its handler in the worker. Each handler first
// records that it has begun.
type sort struct {
	handle func(context.Context, *Request, int) ([]byte, error)
	call   func(*machine, context.Context, *pledge, ...CallOption) error // Pool.Call if nil

	holds  bool // it goes on until it is released, or its context ends
	deaf   bool // its context does not end it
	deadly int  // in so many attempts it ends its process
	fails  bool // its handler returns an error
	asks   bool // it holds in a handler of the service
	parts  int  // how many it sends before it holds or dies, and again after it was released
}

const always = 1 << 30

var sorts = map[string]sort{
	"quick":  {handle: confirm},
	"fails":  {fails: true, handle: func(context.Context, *Request, int) ([]byte, error) { return nil, errors.New("refused") }},
	"held":   {holds: true, handle: hold},
	"once":   {holds: true, handle: hold}, // AtMostOnce
	"deaf":   {holds: true, deaf: true, handle: func(_ context.Context, r *Request, id int) ([]byte, error) { return hold(context.Background(), r, id) }},
	"panics": {deadly: always, handle: func(context.Context, *Request, int) ([]byte, error) { panic("as it is meant") }},
	"exits":  {deadly: always, handle: func(context.Context, *Request, int) ([]byte, error) { os.Exit(7); return nil, nil }},
	"is killed": {deadly: always, handle: func(context.Context, *Request, int) ([]byte, error) {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}},
	"exits, at most once": {deadly: always, handle: func(context.Context, *Request, int) ([]byte, error) { os.Exit(7); return nil, nil }},
	"exits at first": {deadly: 1, handle: func(ctx context.Context, r *Request, id int) ([]byte, error) {
		if r.Attempt == 1 {
			os.Exit(7)
		}
		return confirm(ctx, r, id)
	}},
	"streamed": {holds: true, parts: 3, call: (*machine).stream, handle: func(ctx context.Context, r *Request, id int) ([]byte, error) {
		if err := sendParts(r, 0, 3); err != nil {
			return nil, err
		}
		if _, err := hold(ctx, r, id); err != nil {
			return nil, err
		}
		return nil, sendParts(r, 3, 6)
	}},
	"streamed and dies": {deadly: always, parts: 2, call: (*machine).stream, handle: func(_ context.Context, r *Request, _ int) ([]byte, error) {
		_ = sendParts(r, 0, 2)
		os.Exit(7)
		return nil, nil
	}},
	"asks": {holds: true, asks: true, handle: func(ctx context.Context, r *Request, id int) ([]byte, error) {
		if answer, err := Ask(ctx, "gate", []byte(strconv.Itoa(id))); err != nil || string(answer) != "open" {
			return nil, fmt.Errorf("asked: %q, %w", answer, err)
		}
		return confirm(ctx, r, id)
	}},
	"typed": {handle: func(ctx context.Context, r *Request, id int) ([]byte, error) {
		return Method[int, string]{}.Handler(func(ctx context.Context, n int) (string, error) {
			if n != id {
				return "", fmt.Errorf("request %d", n)
			}
			return confirmed(id, Attempt(ctx)), nil
		})(ctx, r)
	}, call: func(m *machine, ctx context.Context, c *pledge, options ...CallOption) (err error) {
		c.answer, err = Method[int, string]{Name: c.method()}.Call(ctx, m.pool, c.id, options...)
		return err
	}},
}

// confirmed is what a call is answered with: who has answered it.
func confirmed(id, attempt int) string { return fmt.Sprintf("%d %d %d", id, attempt, os.Getpid()) }

func confirm(_ context.Context, r *Request, id int) ([]byte, error) {
	return []byte(confirmed(id, r.Attempt)), nil
}

func hold(ctx context.Context, r *Request, id int) ([]byte, error) {
	if err := untilFile(ctx, filepath.Join(os.Getenv(recordsVariable), fmt.Sprint("release-", id))); err != nil {
		return nil, err
	}
	return confirm(ctx, r, id)
}

func sendParts(r *Request, from, to int) error {
	for i := from; i < to; i++ {
		if err := r.Send([]byte(strconv.Itoa(i))); err != nil {
			return err
		}
	}
	return nil
}

// recordsVariable names the directory of the records. A record is the name of an empty
// file, which outlives who has made it.
const recordsVariable = "TANDEM_TEST_RECORDS"

var recorded atomic.Int64

func record(format string, details ...any) {
	name := fmt.Sprintf(format, details...) + fmt.Sprintf("-%d-%d", os.Getpid(), recorded.Add(1))
	file, err := os.OpenFile(filepath.Join(os.Getenv(recordsVariable), name), os.O_CREATE|os.O_EXCL, 0o600)
	leave(err)
	_ = file.Close()
}

// mostCalls is how many calls a pool of the machine gets: each has a method of its own,
// so that a death names it.
const mostCalls = 60

func methodOf(name string, id int) string { return name + "#" + strconv.Itoa(id) }

// idOf is the number of the call whose method it is; -1 if it is none.
func idOf(method string) int {
	_, number, found := strings.Cut(method, "#")
	if id, err := strconv.Atoi(number); found && err == nil {
		return id
	}
	return -1
}

var _ = part("machine", func() {
	handlers := Handlers{
		"notice": func(_ context.Context, r *Request) ([]byte, error) { record("notice-%s", r.Data); return nil, nil },
		"dies":   func(context.Context, *Request) ([]byte, error) { os.Exit(7); return nil, nil },
	}
	for name, s := range sorts {
		for id := range mostCalls {
			handlers[methodOf(name, id)] = func(ctx context.Context, r *Request) ([]byte, error) {
				record("begun-%d-%d", id, r.Attempt)
				return s.handle(ctx, r, id)
			}
		}
	}
	leave(Serve(context.Background(), handlers))
})

// A begin is a record that a handler has begun.
type begin struct{ id, attempt, pid int }

// A told is a record that a notification was handled.
type told struct{ number, pid, place int }

// read reads all records.
func (m *machine) read() (begins []begin, notices []told) {
	entries, err := os.ReadDir(m.records)
	if err != nil && !errors.Is(err, io.EOF) {
		m.t.Fatalf("harness: %v", err)
	}
	for _, entry := range entries {
		fields := strings.Split(entry.Name(), "-")
		n := make([]int, len(fields))
		for i, field := range fields {
			n[i] = number(field)
		}
		switch fields[0] {
		case "begun":
			begins = append(begins, begin{n[1], n[2], n[3]})
		case "notice":
			notices = append(notices, told{n[1], n[2], n[3]})
		}
	}
	return begins, notices
}
