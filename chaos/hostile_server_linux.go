package chaos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A hostile server answers those who dial: with silence, with nonsense, with memory
// that is none, or with sound memory, over which it then scribbles, the client's
// own words included.

var _ = register("hostile server", func(p *player) {
	var s hostileScript
	p.arg(&s)
	r := rand.New(rand.NewPCG(s.Seed, 0x73727665))
	listener, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	_ = os.Remove(s.Path)
	if err == nil {
		err = unix.Bind(listener, &unix.SockaddrUnix{Name: s.Path})
	}
	if err == nil {
		err = unix.Listen(listener, 8)
	}
	if err != nil {
		p.fail("harness: a hostile server: %v", err)
	}
	p.say("up 0 0")
	for {
		conn, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		if err != nil {
			p.fail("harness: a hostile server: %v", err)
		}
		go rawAnswer(conn, rand.New(rand.NewPCG(r.Uint64(), 1)))
	}
})

// rawAnswer is what one who dials gets.
func rawAnswer(conn int, r *rand.Rand) {
	defer unix.Close(conn)
	c := &rawClient{conn: conn} // what says odd things
	if r.IntN(8) > 0 {
		if _, _, err := rawReceive(conn); err != nil {
			return
		}
	}
	switch r.IntN(10) {
	case 0:
		time.Sleep(time.Duration(r.IntN(600)) * time.Millisecond)
	case 1:
		c.packets(r)
	case 2:
		rawRefusal(conn, r)
	case 3:
	default:
		if s, err := grantSomething(r); err == nil {
			s.conn = conn
			s.serve(r)
		}
	}
}

// rawRefusal refuses, or drops, for any reason.
func rawRefusal(conn int, r *rand.Rand) {
	refusal := newRawPacket(rawRefuse)
	refusal.Reason, refusal.PID = uint32(r.IntN(9)), uint64(r.IntN(1<<22))
	files := oddFiles(r)
	_ = rawSend(conn, refusal.bytes(), files...)
	closeFiles(files)
}

// A rawServer has granted memory to a client.
type rawServer struct {
	conn       int
	grant      rawPacket
	files      []int
	own, peer  rawMemory
	generation uint64
}

// grantSomething makes the memory of a grant, and is wrong in one way, or in none.
func grantSomething(r *rand.Rand) (s *rawServer, err error) {
	s = &rawServer{grant: newRawPacket(rawGrant), generation: 1 + uint64(r.IntN(3))}
	sizes := [2]uint64{rawControl << r.IntN(2), rawControl << r.IntN(2)} // server, client
	wrong := r.IntN(24)
	s.grant.Generation, s.grant.Attachment = s.generation, 1+uint64(r.IntN(3))
	s.grant.ToClientSize, s.grant.ToServerSize = sizes[0], sizes[1]
	for role, size := range sizes {
		fd, memory, err := s.segment(uint64(role+1), size, r, wrong == role)
		if err != nil {
			return nil, err
		}
		s.files = append(s.files, fd)
		if role == 0 {
			s.own = memory
		} else {
			s.peer = memory
		}
	}
	token, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	s.files = append(s.files, token)
	oddSize := []uint64{0, 1, 8, 3 * rawControl, 1 << 31, 1 << 40, 1 << 63, ^uint64(0)}[r.IntN(8)]
	switch wrong {
	case 2:
		last := r.IntN(rawFiles)
		closeFiles(s.files[last:])
		s.files = s.files[:last]
	case 3:
		s.files = append(s.files, oddFiles(r)...)
	case 4:
		s.files[0], s.files[r.IntN(3)] = s.files[r.IntN(3)], s.files[0]
	case 5:
		s.grant.ToServerSize = oddSize
	case 6:
		s.grant.ToClientSize = oddSize
	case 7:
		s.grant.Generation, s.grant.Attachment = r.Uint64(), r.Uint64()
	case 8:
		s.grant.Fingerprint++
	case 9:
		s.grant.Version += uint32(r.IntN(3))
	case 10:
		s.grant.Reason, s.grant.PID = r.Uint32(), r.Uint64()
	}
	return s, nil
}

// segment makes one memory, with its words.
func (s *rawServer) segment(role, size uint64, r *rand.Rand, wrong bool) (fd int, memory rawMemory, err error) {
	kind := -1
	if wrong {
		kind = r.IntN(6)
	}
	fd, err = unix.MemfdCreate("hostile", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, nil, err
	}
	if err = unix.Ftruncate(fd, int64(rawControl+size)); err == nil {
		memory, err = unix.Mmap(fd, 0, int(rawControl+size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		return -1, nil, fmt.Errorf("chaos: memory of a hostile server: %w", err)
	}
	for w, value := range map[rawWord]uint64{
		wordMagic: rawSegmentMagic, wordVersion: rawVersion | role<<32, wordFingerprint: rawFingerprint(), wordGeneration: s.generation, wordRingSize: size,
	} {
		memory.store(w, value)
	}
	seals := unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if role == 1 {
		seals |= unix.F_SEAL_FUTURE_WRITE
	}
	switch kind {
	case 0: // what is no memory
		_ = unix.Close(fd)
		fd, err = unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
		return fd, memory, err
	case 1:
		seals &^= unix.F_SEAL_SHRINK
	case 2:
		_ = unix.Ftruncate(fd, int64(rawControl+size)*2)
	case 3:
		memory.store(rawWords[r.IntN(len(rawWords))].at, r.Uint64())
	case 4:
		memory.store(positionsOf[r.IntN(3)], 8*uint64(r.IntN(1<<10)))
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	return fd, memory, err
}

// serve sends the grant, and does what it likes with all the memory.
func (s *rawServer) serve(r *rand.Rand) {
	_ = rawSend(s.conn, s.grant.bytes(), s.files...)
	closeFiles(s.files)
	defer func() {
		for _, memory := range []rawMemory{s.own, s.peer} {
			_ = unix.Munmap(memory)
		}
	}()
	// Seen from either side it is a client with the other's memory.
	both := []*rawClient{{conn: s.conn, own: s.own, peer: s.peer, grant: s.grant}, {conn: s.conn, own: s.peer, peer: s.own, grant: s.grant}}
	for _, c := range both {
		c.before = []uint64{0, 8, c.own.load(wordWritePos), c.own.load(wordReadPos)}
	}
	// It must not be found out before the client has attached.
	for begun := time.Now(); s.peer.load(wordAttachment) == 0 && time.Since(begun) < time.Second; {
		time.Sleep(50 * time.Microsecond)
	}
	for range 1 + r.IntN(6)*r.IntN(6) {
		c := both[r.IntN(2)]
		switch a := drawAct(r); a.name {
		case "punch", "close the connection": // it has no descriptors of the memory; this connection is closed in the end
		default:
			a.do(c, r)
		}
		time.Sleep(time.Duration(r.IntN(500)) * time.Microsecond)
	}
	switch r.IntN(4) {
	case 0:
		s.own.store(wordGoodbye, s.generation)
	case 1:
		time.Sleep(time.Duration(r.IntN(50)) * time.Millisecond)
	case 2:
		rawRefusal(s.conn, r)
	}
	_ = unix.Shutdown(s.conn, unix.SHUT_RDWR)
	both[1].scribble(r, r.IntN(3000)) // while the client counts what is left
}
