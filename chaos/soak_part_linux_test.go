//go:build amd64 || arm64

package chaos

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// A soakArgument is the order that a process of a soak gets.
type soakArgument struct {
	Path string
	Role ipc.Role
}

// A soakReport is what a resident says of itself, since its last report where that
// makes sense.
type soakReport struct {
	Goroutines                int
	HeapKiB                   uint64
	Trips                     int // rounds of one message
	Messages                  int // echoed
	MedianMicros, WorstMicros float64
	Attached, Ended, Hung     int64 // so far
}

// soakOptions have short times, so that a soak of minutes sees hangs too.
func soakOptions() *ipc.Options {
	return &ipc.Options{
		HeartbeatInterval: 20 * time.Millisecond, HangTimeout: 400 * time.Millisecond,
		CloseTimeout: watchdog, Wait: true,
	}
}

// soakOpen opens the endpoint of a role.
func soakOpen(ctx context.Context, arg soakArgument) (*ipc.Endpoint, error) {
	if arg.Role == ipc.RoleServer {
		return ipc.Listen(ctx, arg.Path, soakOptions())
	}
	return ipc.Dial(ctx, arg.Path, soakOptions())
}

// isEnd reports whether an error says that the peer is gone.
func isEnd(err error) bool {
	return errors.Is(err, ipc.ErrPeerDied) || errors.Is(err, ipc.ErrPeerClosed)
}

// A mortal sends back what comes, until it is killed.
var _ = register("soak mortal", func(p *player) {
	var arg soakArgument
	p.arg(&arg)
	ctx := context.Background()
	e, err := soakOpen(ctx, arg)
	if err != nil {
		p.fail("%v", err)
	}
	p.say("ready")
	go func() { // the word that the soak is over
		p.next()
		if err := e.Close(); err != nil {
			p.fail("close: %v", err)
		}
		p.say("closed")
		os.Exit(0)
	}()
	for {
		m, err := e.Receive(ctx)
		if err == nil {
			err = e.Send(ctx, m.Kind, m.Data)
			_ = m.Release()
		}
		switch {
		case errors.Is(err, ipc.ErrClosed):
			select {}
		case isEnd(err) && arg.Role == ipc.RoleServer:
		case isEnd(err):
			if e, err = e.Redial(ctx); err != nil {
				p.fail("redial: %v", err)
			}
		case err != nil:
			p.fail("%v", err)
		}
	}
})

// A soakResident sends, and waits until that comes back. It ends when the soak says so.
type soakResident struct {
	arg      soakArgument
	e        *ipc.Endpoint
	random   *rand.Rand
	sequence uint64
	trips    []time.Duration
	report   soakReport
	ended    atomic.Int64
	attached atomic.Int64
	hung     atomic.Int64
}

var _ = register("soak resident", func(p *player) {
	r := &soakResident{random: rand.New(rand.NewPCG(1, 1))}
	p.arg(&r.arg)
	ctx, cancel := context.WithCancel(context.Background())
	if err := r.open(ctx); err != nil {
		p.fail("%v", err)
	}
	p.say("ready")
	orders := make(chan string)
	go func() {
		for order := range orders {
			if order == "end" {
				cancel()
			}
		}
	}()
	reports := make(chan chan soakReport)
	go func() {
		for {
			order := p.next()
			if order == "end" {
				orders <- order
				return
			}
			answer := make(chan soakReport)
			reports <- answer
			text, _ := json.Marshal(<-answer)
			p.say("report %s", text)
		}
	}()
	for ctx.Err() == nil {
		select {
		case answer := <-reports:
			answer <- r.sample()
		default:
		}
		if err := r.round(ctx, reports); err != nil && ctx.Err() == nil {
			p.fail("%v", err)
		}
	}
	if err := r.e.Close(); err != nil {
		p.fail("close: %v", err)
	}
	p.say("closed")
})

// open opens the endpoint, and counts what happens to it.
func (r *soakResident) open(ctx context.Context) (err error) {
	if r.e == nil {
		r.e, err = soakOpen(ctx, r.arg)
	} else {
		r.e, err = r.e.Redial(ctx)
	}
	if err == nil {
		go r.count(r.e.Events())
	}
	return err
}

func (r *soakResident) count(events <-chan ipc.Event) {
	for event := range events {
		switch event.Kind {
		case ipc.EventAttached:
			r.attached.Add(1)
		case ipc.EventDied, ipc.EventClosed:
			r.ended.Add(1)
		case ipc.EventHung:
			r.hung.Add(1)
		}
	}
}

// sample is the report, and begins the next.
func (r *soakResident) sample() soakReport {
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	s := r.report
	s.Goroutines, s.HeapKiB, s.Trips = runtime.NumGoroutine(), memory.HeapAlloc>>10, len(r.trips)
	s.Attached, s.Ended, s.Hung = r.attached.Load(), r.ended.Load(), r.hung.Load()
	if slices.Sort(r.trips); len(r.trips) > 0 {
		s.MedianMicros = float64(r.trips[len(r.trips)/2]) / 1e3
		s.WorstMicros = float64(r.trips[len(r.trips)*99/100]) / 1e3
	}
	r.trips, r.report = r.trips[:0], soakReport{}
	return s
}

// message is the one of a number: a size and bytes of its own.
func (r *soakResident) message(sequence uint64) []byte {
	size := 16 + int(sequence*2654435761%8000)
	data := make([]byte, size)
	binary.LittleEndian.PutUint64(data, sequence)
	for i := 8; i < size; i++ {
		data[i] = byte(sequence + uint64(i))
	}
	return data
}

// round sends some messages and waits until all have come back. A server's outlive a
// client; a client's end with the server, and the round with them.
func (r *soakResident) round(ctx context.Context, reports <-chan chan soakReport) error {
	count := 1
	if r.random.IntN(4) == 0 {
		count += r.random.IntN(32)
	}
	begin, whole := time.Now(), true
	waiting := map[uint64]bool{}
	for range count {
		r.sequence++
		if err := r.e.Send(ctx, 1, r.message(r.sequence)); isEnd(err) {
			return r.open(ctx) // at a client only
		} else if err != nil {
			return err
		}
		waiting[r.sequence] = true
	}
	for len(waiting) > 0 {
		bounded, cancel := context.WithTimeout(ctx, time.Second)
		m, err := r.e.Receive(bounded)
		timedOut := err != nil && bounded.Err() != nil && ctx.Err() == nil
		cancel()
		switch {
		case timedOut: // a frozen peer is not to keep the report waiting
			whole = false
			select {
			case answer := <-reports:
				answer <- r.sample()
			default:
			}
		case isEnd(err) && r.arg.Role == ipc.RoleServer:
			whole = false
		case isEnd(err):
			return r.open(ctx)
		case err != nil:
			return err
		default:
			number := binary.LittleEndian.Uint64(m.Data)
			if want := r.message(number); !slices.Equal(m.Data, want) || number > r.sequence {
				return errors.New("M4: what came back is not what was sent")
			}
			delete(waiting, number) // one may come again: its echo outlived who sent it
			_ = m.Release()
			r.report.Messages++
		}
	}
	if whole && count == 1 && len(r.trips) < 1<<20 {
		r.trips = append(r.trips, time.Since(begin))
	}
	if r.random.IntN(16) == 0 {
		time.Sleep(time.Millisecond) // sleep: a load with pauses, in which both sides sleep
	}
	return nil
}
