package chaos

import (
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// An act is one thing that a hostile client does.
type act struct {
	name   string
	weight int // how often it is drawn
	do     func(c *rawClient, r *rand.Rand)
}

// positionsOf are the words that the other side computes with.
var positionsOf = []rawWord{wordWritePos, wordReadPos, wordDelivered}

// acts are all of them. Those that keep the memory sound, or nearly so, are the most
// likely: what is wrong at first sight hides what is wrong at the second.
var acts = []act{
	{"commit", 12, func(c *rawClient, r *rand.Rand) { c.commitRandom(r, 1+r.IntN(3)) }},
	{"fill", 2, func(c *rawClient, r *rand.Rand) { c.commitRandom(r, 1<<10) }},
	{"take", 3, func(c *rawClient, r *rand.Rand) { c.take(1+r.IntN(4), false) }},
	{"release", 3, func(c *rawClient, r *rand.Rand) { c.take(1+r.IntN(4), true) }},
	{"take back a record", 8, func(c *rawClient, r *rand.Rand) {
		c.position(wordWritePos, c.own.load(wordWritePos)-8*uint64(1+r.IntN(8)))
	}},
	{"a former value", 6, func(c *rawClient, r *rand.Rand) {
		c.position(positionsOf[r.IntN(3)], c.before[r.IntN(len(c.before))])
	}},
	{"off by eight", 6, func(c *rawClient, r *rand.Rand) { c.step(r, 8) }},
	{"off by less", 2, func(c *rawClient, r *rand.Rand) { c.step(r, uint64(1+r.IntN(7))) }},
	{"a step of a ring", 3, func(c *rawClient, r *rand.Rand) {
		c.step(r, uint64(r.IntN(4))*c.own.ringSize()/2+8*uint64(r.IntN(3)))
	}},
	{"huge", 3, func(c *rawClient, r *rand.Rand) { c.step(r, 1<<(12+r.IntN(52))) }},
	{"a random position", 2, func(c *rawClient, r *rand.Rand) { c.position(positionsOf[r.IntN(3)], r.Uint64()) }},
	{"a header", 6, func(c *rawClient, r *rand.Rand) { c.badHeader(r) }},
	{"a wrong record", 5, func(c *rawClient, r *rand.Rand) {
		c.badHeader(r)
		c.position(wordWritePos, c.own.load(wordWritePos)+8*uint64(1+r.IntN(6)))
	}},
	{"noise", 2, func(c *rawClient, r *rand.Rand) { noise(c.own[rawControl:], r) }},
	{"zeros", 2, func(c *rawClient, r *rand.Rand) { clear(c.own[rawControl:]) }},
	{"waiting words", 4, func(c *rawClient, r *rand.Rand) {
		c.own.store(wordDataWait, c.peer.load(wordWritePos)+8*uint64(r.IntN(40)))
		c.own.store(wordSpaceWait, c.peer.load(wordReadPos)+8*uint64(r.IntN(1<<9)))
	}},
	{"random waiting words", 1, func(c *rawClient, r *rand.Rand) {
		c.own.store(wordDataWait, r.Uint64())
		c.own.store(wordSpaceWait, r.Uint64())
	}},
	{"beat", 1, func(c *rawClient, r *rand.Rand) { c.own.store(wordBeat, r.Uint64()) }},
	{"attachment", 2, func(c *rawClient, r *rand.Rand) { c.own.store(wordAttachment, c.number(r)) }},
	{"goodbye", 4, func(c *rawClient, r *rand.Rand) { c.own.store(wordGoodbye, c.number(r)) }},
	{"format", 1, func(c *rawClient, r *rand.Rand) { c.own.store(rawWords[r.IntN(5)].at, r.Uint64()) }},
	{"scribble", 4, func(c *rawClient, r *rand.Rand) { c.scribble(r, 1+r.IntN(2000)) }},
	{"flicker", 3, func(c *rawClient, r *rand.Rand) { c.flicker(r) }},
	{"token", 3, func(c *rawClient, r *rand.Rand) { c.fumble(r) }},
	{"packets", 3, func(c *rawClient, r *rand.Rand) { c.packets(r) }},
	{"shutdown", 1, func(c *rawClient, r *rand.Rand) { _ = unix.Shutdown(c.conn, r.IntN(3)) }},
	{"close the connection", 1, func(c *rawClient, r *rand.Rand) { c.closeConn() }},
	{"close the token", 1, func(c *rawClient, r *rand.Rand) { c.closeToken() }},
	{"punch", 1, func(c *rawClient, r *rand.Rand) {
		_ = unix.Fallocate(c.files[fileClient], unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(r.IntN(2))*rawControl, rawControl)
	}},
	{"rest", 4, func(c *rawClient, r *rand.Rand) { time.Sleep(time.Duration(r.IntN(3000)) * time.Microsecond) }},
}

// drawAct draws one by its weight.
func drawAct(r *rand.Rand) act {
	weights := make([]int, len(acts))
	for i := range acts {
		weights[i] = acts[i].weight
	}
	return acts[pick(r, weights)]
}

// step moves a position by so much, either way.
func (c *rawClient) step(r *rand.Rand, by uint64) {
	w := positionsOf[r.IntN(3)]
	if r.IntN(2) == 0 {
		by = -by
	}
	c.position(w, c.own.load(w)+by)
}

func (c *rawClient) commitRandom(r *rand.Rand, count int) {
	for ; count > 0; count-- {
		size := r.IntN(4) * r.IntN(60)
		if int64(c.room()) < int64(recordSize(size)) {
			return
		}
		data := make([]byte, size)
		noise(data, r)
		c.commit(r.Uint32(), data)
	}
}

// badHeader stores a header that may be wrong, where the server reads next or later.
func (c *rawClient) badHeader(r *rand.Rand) {
	at := []uint64{c.own.load(wordWritePos), c.peer.load(wordReadPos), 8 * uint64(r.IntN(int(c.own.ringSize()/8)))}[r.IntN(3)]
	sizes := []uint64{0, 1<<32 - 1, 1<<32 - 8, 1<<32 - 16, c.own.ringSize(), c.own.ringSize() - 8, uint64(r.Uint32()), uint64(r.IntN(200)), 1 << 31}
	c.own.store(c.own.header(at), sizes[r.IntN(len(sizes))]|uint64(r.Uint32())<<32)
}

// number is that of an attachment: its own, or near it, or any.
func (c *rawClient) number(r *rand.Rand) uint64 {
	n := c.grant.Attachment
	return []uint64{n, n, n, 0, n - 1, n + 1, ^uint64(0), r.Uint64()}[r.IntN(8)]
}

// scribble stores what comes to its mind, all over the place, while the other side
// reads.
func (c *rawClient) scribble(r *rand.Rand, count int) {
	for ; count > 0; count-- {
		w := rawWords[5+r.IntN(8)].at // not the format: it would be found out at once
		value := c.own.load(w) + 8*uint64(r.IntN(5)) - 16
		switch r.IntN(12) {
		case 0:
			value = r.Uint64()
		case 1:
			value = c.before[r.IntN(len(c.before))]
		case 2:
			c.own.store(rawWord(rawControl+8*r.IntN(int(c.own.ringSize()/8))), r.Uint64()>>r.IntN(64))
			continue
		}
		if w <= wordDelivered {
			c.diary.stores(w)
		}
		c.own.store(w, value)
	}
}

// flicker shows two values in turn, one after the other.
func (c *rawClient) flicker(r *rand.Rand) {
	w := positionsOf[r.IntN(3)]
	a, b := c.own.load(w), c.own.load(w)+8*uint64(1+r.IntN(8))
	for range 1 + r.IntN(300) {
		c.position(w, b)
		c.position(w, a)
	}
}

// fumble plays with the locks that it can reach.
func (c *rawClient) fumble(r *rand.Rand) {
	for range 1 + r.IntN(4) {
		kind := []int16{unix.F_UNLCK, unix.F_RDLCK, unix.F_WRLCK}[r.IntN(3)]
		start, length := int64(r.IntN(6)), int64(r.IntN(4))
		if r.IntN(4) == 0 {
			start = int64(r.Uint64() >> 1)
		}
		_ = c.lock(kind, start, length)
	}
}

// packets says odd things, with descriptors that nobody has asked for.
func (c *rawClient) packets(r *rand.Rand) {
	if c.conn < 0 {
		return
	}
	for range 1 + r.IntN(5) {
		data := newRawPacket(uint32(r.IntN(6))).bytes()
		switch r.IntN(4) {
		case 0:
			noise(data, r)
		case 1:
			data = data[:r.IntN(len(data))]
		case 2:
			data = append(data, make([]byte, r.IntN(4000))...)
		}
		files := oddFiles(r)
		_ = rawSend(c.conn, data, files...)
		closeFiles(files)
	}
}

// oddFiles are descriptors of some sort, or none.
func oddFiles(r *rand.Rand) (files []int) {
	for range r.IntN(3) * r.IntN(20) {
		var fd int
		var err error
		switch r.IntN(3) {
		case 0:
			fd, err = unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
		case 1:
			fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		case 2:
			fd, err = unix.MemfdCreate("odd", unix.MFD_CLOEXEC)
		}
		if err == nil {
			files = append(files, fd)
		}
	}
	return files
}

// noise fills memory with anything.
func noise(data []byte, r *rand.Rand) {
	for i := range data {
		data[i] = byte(r.Uint32())
	}
}

// knock makes connections that come to nothing: odd hellos, and silence.
func knock(path string, r *rand.Rand) {
	for range r.IntN(4) {
		conn, err := rawConnect(path)
		if err != nil {
			return
		}
		c := &rawClient{conn: conn}
		if r.IntN(3) > 0 {
			c.packets(r)
		}
		c.closeConn()
	}
}
