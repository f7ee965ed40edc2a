//go:build linux

package measure

import (
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// cacheLine is at least what one processor takes from another at a time.
const cacheLine = 128

// sharedWords maps a file that both processes open, and returns words of it, each on a
// cache line of its own.
func sharedWords(path string, n int) ([]*atomic.Uint64, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	size := max(os.Getpagesize(), n*cacheLine)
	if err := file.Truncate(int64(size)); err != nil {
		return nil, err
	}
	memory, err := unix.Mmap(int(file.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	words := make([]*atomic.Uint64, n)
	for i := range words {
		words[i] = (*atomic.Uint64)(unsafe.Pointer(&memory[i*cacheLine]))
	}
	return words, nil
}
