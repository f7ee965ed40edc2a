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
	"sync"
	"time"
)

const (
	maxLine     = 4096 // a longer line is handed on in pieces
	keptLines   = 20   // of standard error, for Death
	keptLineCap = 512
)

// An output is what one process writes, on its way to the service's output.
type output struct {
	pool   *Pool
	worker int
	pid    int

	copying sync.WaitGroup
	mu      sync.Mutex
	tail    []string
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
	if len(o.tail) == keptLines {
		o.tail = slices.Delete(o.tail, 0, 1)
	}
	o.tail = append(o.tail, line[:min(len(line), keptLineCap)])
}

func (o *output) lastLines() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.tail)
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
