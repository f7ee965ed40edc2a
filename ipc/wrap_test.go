//go:build linux && (amd64 || arm64)

package ipc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"

	"pgregory.net/rapid"
)

// startAt makes a new generation's positions begin at the given places: those
// of the ring to the client and of the ring to the server.
func startAt(o *Options, toClient, toServer uint64) *Options {
	o.start.server = positions{writePos: toClient, readPos: toServer, deliveredPos: toServer}
	o.start.client = positions{writePos: toServer, readPos: toClient, deliveredPos: toClient}
	return o
}

// A direction is one direction of a pair, driven by one goroutine, and what a
// slice says about it.
type direction struct {
	from, to *Endpoint
	size     uint64
	waiting  []Message // committed and not received
	held     []Message // received and not released; Data and Kind as they were sent
	views    []Message
	used     []uint64 // record sizes in the ring, oldest first
	released []bool   // of those
}

func (d *direction) free() uint64 {
	free := d.size
	for _, n := range d.used {
		free -= n
	}
	return free
}

// settle frees what was released in order.
func (d *direction) settle() {
	for len(d.used) > 0 && d.released[0] {
		d.used, d.released = d.used[1:], d.released[1:]
	}
}

func TestEndpointsAreQueuesAcrossTheWrap(t *testing.T) {
	page := os.Getpagesize()
	rapid.Check(t, func(rt *rapid.T) {
		sizes := [2]int{page << rapid.IntRange(0, 1).Draw(rt, "toServer"), page << rapid.IntRange(0, 1).Draw(rt, "toClient")}
		options := startAt(&Options{ToServerSize: sizes[0], ToClientSize: sizes[1]}, nearWrap(rt, "at toClient"), nearWrap(rt, "at toServer"))
		path := testPath(t)
		server, err := Listen(testContext(t), path, options)
		if err != nil {
			rt.Fatal(err)
		}
		defer server.Close()
		client, err := Dial(testContext(t), path, nil)
		if err != nil {
			rt.Fatal(err)
		}
		defer client.Close()
		both := [2]*direction{{from: client, to: server, size: uint64(sizes[0])}, {from: server, to: client, size: uint64(sizes[1])}}
		number := 0
		newMessage := func(d *direction, size int) Message {
			number++
			data := bytes.Repeat([]byte{byte(number)}, size)
			return Message{Kind: uint32(number), Data: data}
		}
		commit := func(d *direction, m Message) {
			d.waiting = append(d.waiting, m)
			d.used, d.released = append(d.used, recordSize(len(m.Data))), append(d.released, false)
		}
		which := func(t *rapid.T) *direction { return both[rapid.IntRange(0, 1).Draw(t, "direction")] }
		anySize := func(t *rapid.T, d *direction) int {
			return rapid.OneOf(rapid.IntRange(0, 40), rapid.IntRange(0, int(d.size)-headerSize)).Draw(t, "size")
		}
		rt.Repeat(map[string]func(*rapid.T){
			"send": func(t *rapid.T) {
				d := which(t)
				m := newMessage(d, anySize(t, d))
				err := d.from.TrySend(m.Kind, m.Data)
				if fits := recordSize(len(m.Data)) <= d.free(); fits != (err == nil) || !fits && !errors.Is(err, ErrFull) {
					t.Fatalf("send of %d bytes with %d free: %v", len(m.Data), d.free(), err)
				}
				if err == nil {
					commit(d, m)
				}
			},
			"reserve": func(t *rapid.T) {
				d := which(t)
				m := newMessage(d, anySize(t, d))
				r, err := d.from.TryReserve(len(m.Data))
				if fits := recordSize(len(m.Data)) <= d.free(); fits != (err == nil) || !fits && !errors.Is(err, ErrFull) {
					t.Fatalf("reserve of %d bytes with %d free: %v", len(m.Data), d.free(), err)
				}
				if err != nil {
					return
				}
				copy(r.Data, m.Data)
				if rapid.Bool().Draw(t, "abort") {
					err = r.Abort()
				} else {
					m.Data = m.Data[:rapid.IntRange(0, len(m.Data)).Draw(t, "committed")]
					err = r.Commit(m.Kind, len(m.Data))
					commit(d, m)
				}
				if err != nil {
					t.Fatalf("end of a reservation: %v", err)
				}
			},
			"send batch": func(t *rapid.T) {
				d := which(t)
				batch := make([]Message, rapid.IntRange(0, 8).Draw(t, "count"))
				fitting, free := 0, d.free()
				for i := range batch {
					batch[i] = newMessage(d, rapid.IntRange(0, int(d.size)/4).Draw(t, "size"))
					if need := recordSize(len(batch[i].Data)); fitting == i && need <= free {
						fitting, free = i+1, free-need
					}
				}
				n, err := d.from.TrySendBatch(batch)
				if n != fitting || (err == nil) != (fitting == len(batch)) {
					t.Fatalf("batch: %d sent, %v; want %d of %d", n, err, fitting, len(batch))
				}
				for _, m := range batch[:n] {
					commit(d, m)
				}
			},
			"receive": func(t *rapid.T) {
				d := which(t)
				m, err := d.to.TryReceive()
				if len(d.waiting) == 0 {
					if !errors.Is(err, ErrEmpty) {
						t.Fatalf("receive of nothing: %v, want ErrEmpty", err)
					}
					return
				}
				want := d.waiting[0]
				if err != nil || m.Kind != want.Kind || !bytes.Equal(m.Data, want.Data) || m.Redelivered {
					t.Fatalf("received kind %d, %d bytes, redelivered %t, %v; want kind %d, %d bytes", m.Kind, len(m.Data), m.Redelivered, err, want.Kind, len(want.Data))
				}
				d.waiting, d.held, d.views = d.waiting[1:], append(d.held, want), append(d.views, m)
			},
			"receive into": func(t *rapid.T) {
				d := which(t)
				if len(d.waiting) == 0 {
					t.Skip("empty")
				}
				want := d.waiting[0]
				if len(want.Data) > 0 {
					if _, err := d.to.TryReceiveInto(make([]byte, len(want.Data)-1)); !errors.Is(err, ErrShortBuffer) {
						t.Fatalf("a buffer too small: %v, want ErrShortBuffer", err)
					}
				}
				m, err := d.to.TryReceiveInto(make([]byte, len(want.Data)))
				if err != nil || m.Kind != want.Kind || !bytes.Equal(m.Data, want.Data) {
					t.Fatalf("received kind %d, %d bytes, %v; want kind %d, %d bytes", m.Kind, len(m.Data), err, want.Kind, len(want.Data))
				}
				d.released[len(d.used)-len(d.waiting)] = true
				d.waiting = d.waiting[1:]
				d.settle()
			},
			"release": func(t *rapid.T) {
				d := which(t)
				if len(d.views) == 0 {
					t.Skip("none is held")
				}
				i := rapid.IntRange(0, len(d.views)-1).Draw(t, "which")
				if !bytes.Equal(d.views[i].Data, d.held[i].Data) {
					t.Fatalf("the held message %d has changed (M4)", d.held[i].Kind)
				}
				if err := d.views[i].Release(); err != nil {
					t.Fatalf("release: %v", err)
				}
				if err := d.views[i].Release(); !errors.Is(err, ErrReleased) {
					t.Fatalf("second release: %v, want ErrReleased", err)
				}
				d.markReleased(i)
			},
			"": func(t *rapid.T) {
				for _, d := range both {
					list, err := d.from.Unreleased()
					if err != nil || len(list) != len(d.used) {
						t.Fatalf("%d unreleased, %v; want %d (M6)", len(list), err, len(d.used))
					}
					if got, want := d.to.Stats().HeldViews, d.blocked(); got != want {
						t.Fatalf("%d views held, want %d", got, want)
					}
					d.checkPending(t)
				}
			},
		})
	})
}

// markReleased tells the model that the i-th view is released. Views lie in the
// ring in the order in which they were received, with released ones between.
func (d *direction) markReleased(i int) {
	seen := -1
	for k := range d.used[:len(d.used)-len(d.waiting)] {
		if !d.released[k] {
			if seen++; seen == i {
				d.released[k] = true
				break
			}
		}
	}
	d.views = append(d.views[:i:i], d.views[i+1:]...)
	d.held = append(d.held[:i:i], d.held[i+1:]...)
	d.settle()
}

// checkPending holds what both sides say is pending against the model.
func (d *direction) checkPending(t *rapid.T) {
	t.Helper()
	unreleased, _ := d.from.Pending()
	_, unreceived := d.to.Pending()
	if unreleased != len(d.used) || unreceived != len(d.waiting) {
		t.Fatalf("%d unreleased, %d unreceived, want %d and %d", unreleased, unreceived, len(d.used), len(d.waiting))
	}
	bytes := uint64(0)
	for _, size := range d.used[d.blocked():] {
		bytes += size
	}
	if got := d.to.Stats().UnreceivedBytes; got != bytes {
		t.Fatalf("%d bytes unreceived, want %d", got, bytes)
	}
}

// blocked is how many received messages still take space.
func (d *direction) blocked() int { return len(d.used) - len(d.waiting) }

func TestCountersCrossTheWrapWithWaitingOnBothSides(t *testing.T) {
	for _, before := range []uint64{0, 8, 16, 4096, 8192, 1 << 31, 1 << 32} {
		t.Run(fmt.Sprint(before), func(t *testing.T) {
			ctx := testContext(t)
			page := os.Getpagesize()
			server, client := pair(t, startAt(&Options{ToServerSize: page, ToClientSize: page, Spin: NoSpin}, -before, -before), &Options{Spin: NoSpin})
			const count = 3000
			failed := make(chan error, 1)
			go func() { // echoes, and waits for space as often as for data
				for m, err := range client.Messages(ctx) {
					if err == nil {
						err = client.Send(ctx, m.Kind, m.Data)
					}
					if err == nil {
						err = m.Release()
					}
					if err != nil || m.Kind == count-1 {
						failed <- err
						return
					}
				}
			}()
			go func() {
				for i := range uint32(count) {
					if err := server.Send(ctx, i, make([]byte, i%1000)); err != nil {
						t.Errorf("send %d: %v", i, err)
						return
					}
				}
			}()
			buffer := make([]byte, 1000)
			for i := range uint32(count) {
				m, err := server.ReceiveInto(ctx, buffer)
				if err != nil || m.Kind != i || len(m.Data) != int(i%1000) {
					t.Fatalf("message %d: kind %d, %d bytes, %v", i, m.Kind, len(m.Data), err)
				}
			}
			if err := <-failed; err != nil {
				t.Fatalf("the echo ended with %v", err)
			}
		})
	}
}
