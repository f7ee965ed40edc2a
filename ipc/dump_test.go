//go:build linux && (amd64 || arm64)

package ipc

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

// flagsOf returns the flags of the mappings of this process that lie in a piece of
// memory, as /proc/self/smaps has them: dd is not in core dumps, dc not in children.
func flagsOf(t *testing.T, mem []byte) (found [][]string) {
	t.Helper()
	content, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	begin := uint64(uintptr(unsafe.Pointer(&mem[0])))
	inside := false
	for line := range strings.Lines(string(content)) {
		var from, to uint64
		if n, _ := fmt.Sscanf(line, "%x-%x", &from, &to); n == 2 {
			inside = from < begin+uint64(len(mem)) && to > begin
		}
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && inside {
			found = append(found, strings.Fields(flags))
		}
	}
	if len(found) == 0 {
		t.Fatal("no mapping found: the test is blind")
	}
	return found
}

func TestTheRingsAreInNoCoreDumpUnlessAskedFor(t *testing.T) {
	needsRealKernel(t, "qemu-user passes on no MADV_DONTDUMP and no MADV_DONTFORK")
	for _, dumped := range []bool{false, true} {
		options := &Options{DumpRings: dumped}
		server, client := pair(t, options, options)
		check := func(what string, s *segment) {
			t.Helper()
			for _, flags := range flagsOf(t, s.mem) {
				if out := slices.Contains(flags, "dd"); out == dumped {
					t.Errorf("DumpRings %t, %s: flags %v", dumped, what, flags)
				}
				if !slices.Contains(flags, "dc") {
					t.Errorf("C10: %s: flags %v", what, flags)
				}
			}
		}
		for _, e := range []*Endpoint{client, server} {
			check("the own memory of the "+e.role.String(), e.own)
			check("the peer's memory at the "+e.role.String(), e.in.peer)
			own := e.own
			own.refs.Add(1) // as a view does
			if err := e.Close(); err != nil {
				t.Error(err)
			}
			check("the private memory in its place", own)
			own.release()
		}
	}
}
