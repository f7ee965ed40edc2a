package worker

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// memoryInterval is how often the memory of a worker is looked at.
const memoryInterval = 250 * time.Millisecond

// checkMemory compares a worker's memory with the limit.
func (y *stay) checkMemory() {
	p := y.slot.pool
	limit := p.config.MaxMemory
	if limit == 0 {
		return
	}
	p.mu.Lock()
	pid := y.process.pidOf()
	p.mu.Unlock()
	switch used := residentMemory(pid); {
	case used > limit+limit/2:
		y.kill(ReasonMemory, fmt.Errorf("%d bytes of memory, of %d", used, limit))
	case used > limit:
		p.mu.Lock()
		p.recycle(y)
		p.mu.Unlock()
	}
}

// residentMemory is what the kernel counts, less what the process shares with
// others, such as the channel. It is 0 if that cannot be known.
func residentMemory(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	fields := strings.Fields(string(text))
	if err != nil || len(fields) < 3 {
		return 0
	}
	resident, err1 := strconv.ParseInt(fields[1], 10, 64)
	shared, err2 := strconv.ParseInt(fields[2], 10, 64)
	if err1 != nil || err2 != nil {
		return 0
	}
	return (resident - shared) * int64(os.Getpagesize())
}
