//go:build linux && (amd64 || arm64)

package worker

import (
	"container/list"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/tandem-ipc/tandem/ipc"
)

// Whatever frames a worker sends, the pool neither panics nor waits; each of its calls
// ends once at most, only with an answer for it, and none of another worker does.
func FuzzFramesFromWorker(f *testing.F) {
	const start, calls, maxMessage, operationSize = 7, 4, 100, 6
	hello, begin, answer := byte(kindHello), byte(kindStarted), byte(kindAnswer)
	for _, p := range [][]byte{
		{},
		{hello, 0, wireVersion, 0, 0, 0, begin, 0, 5, 0, 0, 0, answer, 0, 5, 0, 0, 9},
		{hello, 0, wireVersion, 0, 0, 0, answer, 0, 5, 0, 0, 9, answer, 0, 5, 0, 0, 9, answer, 0, 1, 0, 0, 9},
		{hello, 0, wireVersion, 0, 0, 0, answer, 0, 5, byte(statusTooLarge), 0, 0, answer, 0, 6, byte(statusCount), 0, 0},
		{hello, 0, wireVersion, 0, 0, 0, hello, 0, wireVersion, 0, 0, 0}, {hello, 1, wireVersion, 0, 0, 0}, {hello, 0, 2, 0, 0, 0},
		{hello, 0, wireVersion, 0, 0, 0, answer, 1, 5, 0, 0, 9}, {hello, 0, wireVersion, 0, 0, 0, answer, 0, 6, 0, 1, 9},
		{hello, 0, wireVersion, 0, 0, 0, answer, 0, 7, 0, 0, 200},
		{answer, 0, 1, 0, 0, 9, 99, 0, 0, 0, 0, 0},
	} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, operations []byte) {
		p := &Pool{config: Config{Concurrency: calls, MaxMessage: maxMessage}, ordinary: list.New(), suspects: list.New()}
		s, other := newSlot(p, 0, nil), newSlot(p, 1, nil)
		p.slots = []*slot{s, other}
		other.current = newStay(other, start+1)
		other.current.serving = true
		var all []*call
		for range 2 * calls {
			c := &call{method: "method", kick: make(chan struct{}, 1), done: make(chan outcome, 1)}
			p.enqueue(c, p.ordinary)
			all = append(all, c)
		}
		p.schedule() // the other worker has as many as it takes: ids 1 to 4
		s.current = newStay(s, start)
		ended := map[*call]bool{}
		var speaker *stay
		for ; len(operations) >= operationSize; operations = operations[operationSize:] {
			o := operations[:operationSize]
			data := make([]byte, headerSize+int(o[5]))
			header{start: start + uint64(o[1]), id: uint64(o[2]), number: uint32(o[3]), methodSize: int(o[4])}.put(data)
			if o[3] > 200 { // a header that says what none says
				binary.LittleEndian.PutUint64(data[16:], uint64(o[3])<<56)
			}
			var err error
			if speaker, err = s.take(speaker, ipc.Message{Kind: uint32(o[0]), Data: data[:max(0, len(data)-int(o[4]))]}); err != nil {
				break // then it is killed
			}
			for _, c := range all {
				select {
				case end := <-c.done:
					if ended[c] || speaker == nil || c.flight != nil {
						t.Fatalf("a call ends again, or is still with a worker: %+v", end)
					}
					var remote *RemoteError
					if end.err != nil && !errors.As(end.err, &remote) && !errors.Is(end.err, ErrUnknownMethod) && !errors.Is(end.err, ErrTooLarge) {
						t.Fatalf("a call ends with %v", end.err)
					}
					if len(end.answer) > maxMessage {
						t.Fatalf("an answer of %d bytes", len(end.answer))
					}
					ended[c] = true
				default:
				}
			}
			if n := len(s.current.flights) + len(other.current.flights); p.running != n || len(s.current.flights) > calls {
				t.Fatalf("%d calls are with workers, and %d are counted", n, p.running)
			}
		}
		if n := len(other.current.flights); n != calls {
			t.Fatalf("another worker has %d calls, it had %d", n, calls)
		}
	})
}
