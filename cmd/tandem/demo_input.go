package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// An inputFile is a file as it was when the demo began. Its path is bytes,
// because it need not be UTF-8, which JSON strings must be.
type inputFile struct {
	Path     []byte `json:"path"`
	Size     int64  `json:"size"`
	ModNanos int64  `json:"mod_nanos"`
}

// errChanged is returned for a file that is not what it was: its digest has
// nothing to be compared with.
var errChanged = errors.New("the file has changed since the demo began, or has no fixed size")

// open opens the file, if it still is the one that was found. It waits for no writer of
// a pipe that has taken the file's place, and no read waits for what has yet to come.
func (f inputFile) open() (*os.File, error) {
	file, err := os.OpenFile(string(f.Path), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := f.check(file); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// check compares the open file with what was found.
func (f inputFile) check(file *os.File) error {
	now, err := file.Stat()
	if err != nil {
		return err
	}
	if !now.Mode().IsRegular() || now.Size() != f.Size || now.ModTime().UnixNano() != f.ModNanos {
		return errChanged
	}
	return nil
}

// readInto fills data, which has the file's size, with what the file holds.
func (f inputFile) readInto(data []byte) error {
	file, err := f.open()
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := io.ReadFull(file, data); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errChanged
	} else if err != nil {
		return err
	}
	return f.check(file)
}

// digest computes the SHA-256 of the file in this process, from the file itself.
func (f inputFile) digest(ctx context.Context) (sum [sha256.Size]byte, err error) {
	file, err := f.open()
	if err != nil {
		return sum, err
	}
	defer file.Close()
	hash := sha256.New()
	if err := copySize(ctx, hash, file, f.Size); err != nil {
		return sum, err
	}
	if err := f.check(file); err != nil {
		return sum, err
	}
	hash.Sum(sum[:0])
	return sum, nil
}

// copySize copies all that from has, if that is size bytes. It reads one byte more at
// most: a file in /proc says that it has none, and can go on for hours. It looks at ctx
// between two pieces.
func copySize(ctx context.Context, to io.Writer, from io.Reader, size int64) error {
	const piece = 256 << 10
	for left := size + 1; ; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := io.CopyN(to, from, min(left, piece))
		left -= n
		switch {
		case left == 0:
			return errChanged
		case errors.Is(err, io.EOF) && left == 1:
			return nil
		case errors.Is(err, io.EOF):
			return errChanged
		case err != nil:
			return err
		}
	}
}

// A skipped is a file or directory that takes no part, and why.
type skipped struct {
	path string
	err  error
}

func (s skipped) String() string {
	var of *fs.PathError
	if errors.As(s.err, &of) && of.Path == s.path {
		return fmt.Sprintf("%s: %v", s.path, of.Err)
	}
	return fmt.Sprintf("%s: %v", s.path, s.err)
}

// findInput returns the regular files under dir, in lexical order, and the
// directories that cannot be read. Links are not followed.
func findInput(dir string) (files []inputFile, left []skipped, err error) {
	if info, err := os.Stat(dir); err != nil {
		return nil, nil, err
	} else if !info.IsDir() {
		return nil, nil, fmt.Errorf("%s is not a directory", dir)
	}
	// A root that is itself a link is meant, so what it points to is walked.
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, nil, err
	}
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil && path == root {
			return err
		}
		var info fs.FileInfo
		if err == nil && entry.Type().IsRegular() {
			info, err = entry.Info()
		}
		if err != nil {
			left = append(left, skipped{path, err})
			return nil
		}
		if info != nil {
			files = append(files, inputFile{[]byte(path), info.Size(), info.ModTime().UnixNano()})
		}
		return nil
	})
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("there is no regular file under %s, so there is nothing to send", dir)
	}
	return files, left, err
}

// recordOverhead is what a ring of any size cannot use for one message's data.
const recordOverhead = 8

// ringSizeFor returns the smallest ring that holds the largest of the files in
// one message.
func ringSizeFor(files []inputFile) (int, error) {
	largest := files[0]
	for _, f := range files {
		if f.Size > largest.Size {
			largest = f
		}
	}
	if limit := int64(ipc.MaxRingSize - recordOverhead); largest.Size > limit {
		return 0, fmt.Errorf("%s has %d bytes, and the largest message has %d: choose another -dir", largest.Path, largest.Size, limit)
	}
	need := uint64(largest.Size) + recordOverhead
	return max(ipc.DefaultRingSize, 1<<bits.Len64(need-1)), nil
}

// digestsOf computes the digests of all files without any IPC, on all cores. For
// files that cannot be read, or have changed, it returns the error instead. When ctx
// ends, that is the error of those that are not done.
func digestsOf(ctx context.Context, files []inputFile) (digests [][sha256.Size]byte, errs []error) {
	digests, errs = make([][sha256.Size]byte, len(files)), make([]error, len(files))
	next := make(chan int, len(files))
	for i := range files {
		next <- i
	}
	close(next)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := range next {
				digests[i], errs[i] = files[i].digest(ctx)
			}
		})
	}
	workers.Wait()
	return digests, errs
}

// defaultDir is the source of the standard library, which is where Go is, and
// else the current directory.
func defaultDir() string {
	root := os.Getenv("GOROOT")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "env", "GOROOT")
	// A go.mod in the current directory must not make it fetch another Go.
	cmd.Dir = os.TempDir()
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local")
	if out, err := cmd.Output(); err == nil {
		root = strings.TrimSpace(string(out))
	}
	source := filepath.Join(root, "src")
	if info, err := os.Stat(source); root != "" && err == nil && info.IsDir() {
		return source
	}
	return "."
}
