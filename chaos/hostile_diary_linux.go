package chaos

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A diary is what one actor of a hostile episode has done, in memory that survives
// its death: some counts, which are raised before the thing is done, and entries in
// the order of what happened. A nil diary notes nothing.
type diary struct {
	memory []byte
	mu     sync.Mutex
}

// The counts of a diary, by their number.
const (
	pageEntries  = iota // entries
	pageWrites          // a hostile client's stores of each position
	pageReads           //
	pageDelivers        //
	pageBegun           // messages that an honest one began to send
	pageSent            // and knows to be committed
	pageUp              // it has an endpoint: generation << 32 | attachment
	pageTaking          // the number of the last message that it was about to release
	pageReleased        // and has released
	pageOverflow        // entries that there was no room for
	pageCounts
)

const (
	diaryEntries = 1 << 17
	entrySize    = 16
	diaryHead    = 128
	diarySize    = diaryHead + diaryEntries*entrySize
)

// What an entry can be.
const (
	entryAttached = iota + 1 // generation, attachment: a hostile client is granted, or a server's event
	entryMessage             // lane, number: a whole message of an honest sender
	entryAgain               // the same, marked as redelivered
	entryOther               // how many messages in a row that no honest sender has sent
	entryEnd                 // attachment, how: an event of the server's
	entryTold                // how: Receive has told the end of a client
)

// How an attachment has ended.
const (
	endDied = iota + 1
	endClosed
	endCorrupt
	endOther
)

// An entry is one line of a diary.
type entry struct {
	what uint32
	a    uint32
	b    uint64
}

// openDiary makes the diary at a path, or opens it if it is there.
func openDiary(path string) (*diary, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := file.Truncate(diarySize); err != nil {
		return nil, err
	}
	memory, err := unix.Mmap(int(file.Fd()), 0, diarySize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("chaos: map %s: %w", path, err)
	}
	_ = unix.Madvise(memory, unix.MADV_RANDOM) // else the kernel reads ahead
	return &diary{memory: memory}, nil
}

func (d *diary) close() {
	if d != nil {
		_ = unix.Munmap(d.memory)
	}
}

func (d *diary) get(count int) uint64 {
	if d == nil {
		return 0
	}
	return binary.LittleEndian.Uint64(d.memory[8*count:])
}

func (d *diary) put(count int, value uint64) {
	if d != nil {
		binary.LittleEndian.PutUint64(d.memory[8*count:], value)
	}
}

// stores notes that a position is about to be stored.
func (d *diary) stores(w rawWord) {
	switch w {
	case wordWritePos:
		d.put(pageWrites, d.get(pageWrites)+1)
	case wordReadPos:
		d.put(pageReads, d.get(pageReads)+1)
	case wordDelivered:
		d.put(pageDelivers, d.get(pageDelivers)+1)
	}
}

// attached notes that a client was granted its memory.
func (d *diary) attached(grant rawPacket) {
	d.enter(entry{entryAttached, uint32(grant.Generation), grant.Attachment})
}

// enter adds an entry. Messages that nobody sent are counted in the last one, so
// that even millions of them have room.
func (d *diary) enter(e entry) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.get(pageEntries)
	if e.what == entryOther && n > 0 {
		if last := d.entry(n - 1); last.what == entryOther {
			e.b += last.b
			n--
		}
	}
	if n >= uint64(len(d.memory)-diaryHead)/entrySize {
		d.put(pageOverflow, d.get(pageOverflow)+1)
		return
	}
	at := d.memory[diaryHead+n*entrySize:]
	binary.LittleEndian.PutUint32(at, e.what)
	binary.LittleEndian.PutUint32(at[4:], e.a)
	binary.LittleEndian.PutUint64(at[8:], e.b)
	d.put(pageEntries, n+1)
}

func (d *diary) entry(n uint64) entry {
	at := d.memory[diaryHead+n*entrySize:]
	return entry{binary.LittleEndian.Uint32(at), binary.LittleEndian.Uint32(at[4:]), binary.LittleEndian.Uint64(at[8:])}
}

// entries are all of them.
func (d *diary) entries() (all []entry) {
	for n := range d.get(pageEntries) {
		all = append(all, d.entry(n))
	}
	return all
}
