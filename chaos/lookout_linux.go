package chaos

import (
	"sync"
	"time"
)

// stepped are the parts without a lookout: their instructions are counted, and they
// must have no thread that runs by itself. Where system calls are counted or made
// to fail, those of a lookout are among the Go runtime's, which are left out.
var stepped = map[string]bool{"instruction": true, "instruction predecessor": true}

// postLookout has the Go runtime look around every ten milliseconds in this
// process. In Go 1.26 and 1.27 a thread that is just entering a system call can be missed
// where the world is stopped (reentersyscall in runtime/proc.go asks whether it is
// before it says that it is in one): everybody then waits for that system call, or
// for the next timer of the process, and for a minute if it has none. A process of
// a layer has none but watchdogs, so that a stop for the garbage collector would
// look like a call that does not come back.
var postLookout = sync.OnceFunc(func() {
	ticker := time.NewTicker(10 * time.Millisecond)
	go func() {
		for range ticker.C {
		}
	}()
})
