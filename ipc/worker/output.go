package worker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	maxLine     = 4096 // a longer line is handed on in pieces
	keptLines   = 20   // of standard error, for Death: the last
	keptCause   = 10   // and the first from where the Go runtime says why it ends
	keptLineCap = 512
)

// An output is what one process writes, on its way to the service's output.
type output struct {
	pool   *Pool
	worker int
	pid    int

	copying sync.WaitGroup
	mu      sync.Mutex
	count   int      // lines
	tail    []string // the last of them
	cause   []string // the first of what the Go runtime said last, if it has
	causeAt int      // number of its first line
}

// follow hands on the lines of one stream, until it ends.
func (o *output) follow(stream string, from *os.File, keep bool) {
	o.copying.Add(1)
	go o.copy(stream, from, bufio.NewReaderSize(from, maxLine), keep)
}

// copy hands on the lines that come, and starts itself again if the user's writer or logger
// ends its goroutine: else the worker would die of writing to a closed pipe.
func (o *output) copy(stream string, from *os.File, lines *bufio.Reader, keep bool) {
	ended := false
	defer func() {
		if !ended {
			go o.copy(stream, from, lines, keep)
			return
		}
		_ = from.Close()
		o.copying.Done()
	}()
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) && len(line) == 0 {
			ended = true
			return
		}
		text := string(trimNewline(line))
		if keep {
			o.keep(text)
		}
		o.hand(stream, text)
	}
}

// await waits until the lines of an ended process are handed on, but not for a
// writer of the service that takes none.
func (o *output) await() {
	done := make(chan struct{})
	go func() {
		o.copying.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(2 * outputTimeout):
	}
}

func trimNewline(line []byte) []byte {
	if n := len(line); n > 0 && line[n-1] == '\n' {
		return line[:n-1]
	}
	return line
}

func (o *output) keep(line string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	line = line[:min(len(line), keptLineCap)]
	filling := len(o.cause) > 0 && len(o.cause) < keptCause
	switch {
	case filling:
		o.cause = append(o.cause, line)
	case saysWhy(line), strings.HasPrefix(line, "runtime: "): // a stack that is too large begins like this
		o.cause, o.causeAt = []string{line}, o.count
	}
	o.count++
	if len(o.tail) == keptLines {
		o.tail = slices.Delete(o.tail, 0, 1)
	}
	o.tail = append(o.tail, line)
}

// saysWhy reports whether a line is the one in which the Go runtime says why it ends the
// process. What follows, the goroutines, is long.
func saysWhy(line string) bool {
	return strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ")
}

func (o *output) lastLines() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	tailAt := o.count - len(o.tail)
	before := min(len(o.cause), max(0, tailAt-o.causeAt)) // lines of the cause that the tail has not
	lines := slices.Clone(o.cause[:before])
	if before > 0 && o.causeAt+before < tailAt {
		lines = append(lines, "[…]")
	}
	return append(lines, o.tail...)
}

func (o *output) hand(stream, line string) {
	config := &o.pool.config
	if logger := config.Logger; logger != nil {
		logger.LogAttrs(context.Background(), slog.LevelInfo, line,
			slog.Int("worker", o.worker), slog.Int("pid", o.pid), slog.String("stream", stream))
		return
	}
	var to io.Writer = os.Stderr
	if config.Output != nil {
		to = config.Output
	}
	o.pool.writing.Lock()
	defer o.pool.writing.Unlock()
	_, _ = fmt.Fprintf(to, "worker %d[%d]: %s\n", o.worker, o.pid, line)
}
