//go:build linux

package measure

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/rpc"
	"sync"
	"sync/atomic"
	"time"
)

// Echo is what the server of a contender with calls does with a request. It says with
// ended that this was the last one.
func Echo(request []byte) (answer []byte, ended bool) {
	echoed.Add(1)
	return request, len(request) >= 8 && binary.LittleEndian.Uint64(request) == lastNumber
}

// echoed counts the calls that this process has answered.
var echoed atomic.Uint64

// callSide makes the client's calls: one after the other, or so many at a time, each
// from a goroutine with numbers of its own.
func callSide(s *Setup, caller Caller) (*Meter, error) {
	meter := &Meter{setup: s}
	var err error
	callers := make([]*goroutineCalls, s.InFlight)
	for i := range callers {
		callers[i] = newGoroutineCalls(s, caller)
	}
	switch s.Work {
	case RoundTrip:
		err = meter.Trips(callers[0].call)
	case Idle:
		err = callers[0].call()
		meter.begin()
		time.Sleep(s.Time)
		meter.end(0)
	case Requests:
		err = meter.requests(callers)
	default:
		err = fmt.Errorf("there is no work %q for calls", s.Work)
	}
	for _, c := range callers {
		meter.Report.Wrong += c.in.Wrong
		meter.Report.Missing += c.in.Missing
	}
	last := newGoroutineCalls(s, caller)
	last.out.last = true
	_ = last.call() // its server may have gone before the answer
	return meter, err
}

type goroutineCalls struct {
	caller          Caller
	out             Source
	in              Sink
	request, buffer []byte
}

func newGoroutineCalls(s *Setup, caller Caller) *goroutineCalls {
	return &goroutineCalls{
		caller: caller, request: make([]byte, s.Size), buffer: make([]byte, s.Size),
		out: Source{every: s.Check}, in: Sink{every: s.Check, size: s.Size},
	}
}

func (c *goroutineCalls) call() error {
	c.out.Fill(c.request)
	answer, err := c.caller.Call(c.request, c.buffer)
	if err == nil {
		c.in.Take(answer)
	}
	return err
}

func (m *Meter) requests(callers []*goroutineCalls) error {
	phase := func(d time.Duration, clock bool) (uint64, error) {
		var all sync.WaitGroup
		var mu sync.Mutex
		var total uint64
		var first error
		end := time.Now().Add(d)
		for _, c := range callers {
			all.Add(1)
			go func() {
				defer all.Done()
				n := uint64(0)
				times := make([]time.Duration, 0, 1024)
				var err error
				for now := time.Now(); err == nil && now.Before(end); n++ {
					err = c.call()
					then := now
					now = time.Now()
					if clock {
						times = append(times, now.Sub(then))
					}
				}
				mu.Lock()
				defer mu.Unlock()
				total += n
				first = errors.Join(first, err)
				for _, took := range times {
					m.Record(took)
				}
			}()
		}
		all.Wait()
		return total, first
	}
	warm, err := phase(m.setup.Warm, false)
	if err != nil {
		return err
	}
	m.begin()
	n, err := phase(m.setup.Time, false)
	m.end(n)
	if err != nil {
		return err
	}
	clocked, err := phase(m.setup.Time, true)
	m.Report.Total = 2 * (warm + n + clocked)
	return err
}

// RPC is the service of net/rpc.
type RPC struct{ done func() }

// Echo answers with what it was given.
func (r RPC) Echo(request []byte, answer *[]byte) error {
	var ended bool
	if *answer, ended = Echo(request); ended {
		r.done()
	}
	return nil
}

// Never answers when the process ends.
func (RPC) Never([]byte, *[]byte) error { select {} }

func callsRefuse(s *Setup) string { return onlyWaits(s, Default) }

func netRPC() *Transport {
	return &Transport{
		Name: "net/rpc", Unsupported: callsRefuse, Version: goVersion,
		Settings: func(*Setup) string { return "gob over a Unix socket" },
		Serve: func(s *Setup, ready func()) error {
			l, err := listenUnix(s)
			if err != nil {
				return err
			}
			ended := make(chan struct{})
			server := rpc.NewServer()
			if err := server.Register(RPC{sync.OnceFunc(func() { close(ended) })}); err != nil {
				return err
			}
			go server.Accept(l)
			ready()
			<-ended
			time.Sleep(grace / 2) // for the last answer
			return nil
		},
		Call: func(s *Setup) (Caller, error) {
			c, err := rpc.Dial("unix", socketPath(s))
			return rpcCaller{c}, err
		},
	}
}

type rpcCaller struct{ *rpc.Client }

func (c rpcCaller) Call(request, buffer []byte) ([]byte, error) {
	answer := buffer[:0]
	err := c.Client.Call("RPC.Echo", request, &answer)
	return answer, err
}

// Never makes a call that is not answered.
func (c rpcCaller) Never() error { return c.Client.Call("RPC.Never", []byte{0}, new([]byte)) }

func httpUnix() *Transport {
	return &Transport{
		Name: "http", Unsupported: callsRefuse, Version: goVersion,
		Settings: func(*Setup) string { return "HTTP/1.1, POST over kept Unix sockets" },
		Serve: func(s *Setup, ready func()) error {
			l, err := listenUnix(s)
			if err != nil {
				return err
			}
			ended := make(chan struct{})
			done := sync.OnceFunc(func() { close(ended) })
			mux := http.NewServeMux()
			mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
				request := make([]byte, s.Size)
				if _, err := io.ReadFull(r.Body, request); err != nil {
					http.Error(w, err.Error(), http.StatusBadRequest)
					return
				}
				answer, last := Echo(request)
				_, _ = w.Write(answer)
				if last {
					done()
				}
			})
			mux.HandleFunc("/never", func(http.ResponseWriter, *http.Request) { select {} })
			server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
			go func() { _ = server.Serve(l) }()
			ready()
			<-ended
			time.Sleep(grace / 2) // for the last answer
			return nil
		},
		Call: func(s *Setup) (Caller, error) {
			dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", socketPath(s))
			}
			c := &http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: s.InFlight, MaxIdleConns: s.InFlight}}
			return httpCaller{c}, nil
		},
	}
}

type httpCaller struct{ c *http.Client }

func (h httpCaller) Call(request, buffer []byte) ([]byte, error) {
	answer, err := h.c.Post("http://unix/echo", "application/octet-stream", bytes.NewReader(request))
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, errors.New(answer.Status)
	}
	if _, err := io.ReadFull(answer.Body, buffer); err != nil {
		return nil, err
	}
	_, _ = io.Copy(io.Discard, answer.Body) // its end: the connection is kept
	return buffer, nil
}

// Never makes a call that is not answered.
func (h httpCaller) Never() error {
	answer, err := h.c.Get("http://unix/never")
	if err == nil {
		_ = answer.Body.Close()
		err = errors.New("it was answered")
	}
	return err
}

func (h httpCaller) Close() error {
	h.c.CloseIdleConnections()
	return nil
}
