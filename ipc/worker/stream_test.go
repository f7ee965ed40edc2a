//go:build linux && (amd64 || arm64)

package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// The handlers of streams. Their requests are numbers, if they are anything.
func init() {
	number := func(r *Request) int { n, _ := strconv.Atoi(string(r.Data)); return n }
	send := func(r *Request, n int) error {
		for i := range n {
			if err := r.Send([]byte(strconv.Itoa(i))); err != nil {
				return err
			}
		}
		return nil
	}
	testHandlers["count"] = func(_ context.Context, r *Request) ([]byte, error) { return nil, send(r, number(r)) }
	testHandlers["count and answer"] = func(_ context.Context, r *Request) ([]byte, error) {
		return []byte("last"), send(r, number(r))
	}
	testHandlers["count and fail"] = func(_ context.Context, r *Request) ([]byte, error) {
		return nil, errors.Join(send(r, number(r)), errors.New("no more"))
	}
	testHandlers["count and exit"] = func(_ context.Context, r *Request) ([]byte, error) {
		defer os.Exit(7)
		return nil, send(r, number(r))
	}
	testHandlers["exit, then count"] = func(_ context.Context, r *Request) ([]byte, error) {
		if r.Attempt == 1 {
			os.Exit(7)
		}
		return nil, send(r, number(r))
	}
	testHandlers["count and hang"] = func(_ context.Context, r *Request) ([]byte, error) {
		_ = send(r, number(r))
		select {}
	}
	// endless sends parts of a size, for as long as it may; sent counts them.
	testHandlers["endless"] = func(_ context.Context, r *Request) ([]byte, error) {
		part := make([]byte, number(r))
		for {
			if err := r.Send(part); err != nil {
				lastSend.Store(&err)
				return nil, err
			}
			sent.Add(1)
		}
	}
	testHandlers["sent"] = func(context.Context, *Request) ([]byte, error) { return []byte(strconv.Itoa(int(sent.Load()))), nil }
	// afterwards sends when its stream has been cancelled, and lasting when its handler has returned.
	testHandlers["afterwards"] = func(ctx context.Context, r *Request) ([]byte, error) {
		err := r.Send(nil)
		<-ctx.Done()
		err = errors.Join(err, r.Send(nil))
		lastSend.Store(&err)
		return nil, err
	}
	testHandlers["part, then hang"] = func(_ context.Context, r *Request) ([]byte, error) {
		_ = r.Send(nil)
		select {}
	}
	testHandlers["lasting"] = func(ctx context.Context, r *Request) ([]byte, error) {
		go func() {
			<-ctx.Done()
			err := r.Send(nil)
			lastSend.Store(&err)
		}()
		return nil, nil
	}
	testHandlers["last send"] = func(context.Context, *Request) ([]byte, error) {
		if err := lastSend.Load(); err != nil {
			return []byte((*err).Error()), nil
		}
		return nil, nil
	}
	testHandlers["send too much"] = func(_ context.Context, r *Request) ([]byte, error) {
		return nil, r.Send(make([]byte, number(r)))
	}
}

var (
	sent     atomic.Int64
	lastSend atomic.Pointer[error]
)

// collect reads a stream to its end.
func collect(t testing.TB, p *Pool, method, request string, options ...CallOption) (parts []string, err error) {
	for part, err := range p.Stream(testContext(t), method, []byte(request), options...) {
		if err != nil {
			return parts, err
		}
		parts = append(parts, string(part))
	}
	return parts, nil
}

// wantCount checks that the parts are 0 to n-1.
func wantCount(t testing.TB, parts []string, n int) {
	t.Helper()
	if len(parts) != n {
		t.Errorf("%d parts, want %d", len(parts), n)
	}
	for i, part := range parts {
		if part != strconv.Itoa(i) {
			t.Fatalf("part %d is %q", i, part)
		}
	}
}

func TestAStreamComesInOrderAndWhole(t *testing.T) {
	p, _ := startPool(t, Config{})
	parts, err := collect(t, p, "count", "10000")
	wantCount(t, parts, 10000)
	wantErrors(t, err, nil)
	if parts, err = collect(t, p, "count", "0"); len(parts) != 0 || err != nil {
		t.Errorf("an empty stream: %q, %v", parts, err)
	}
	parts, err = collect(t, p, "count and answer", "2")
	if len(parts) != 3 || parts[2] != "last" || err != nil {
		t.Errorf("with an answer at the end: %q, %v", parts, err)
	}
	if parts, err = collect(t, p, "echo", "one"); len(parts) != 1 || parts[0] != "one" || err != nil {
		t.Errorf("a handler that sends nothing: %q, %v", parts, err)
	}
	parts, err = collect(t, p, "count and fail", "2")
	var remote *RemoteError
	if !errors.As(err, &remote) || remote.Message != "no more" {
		t.Errorf("error %v", err)
	}
	wantCount(t, parts, 2)
	if stats := p.Stats(); stats.Answered != 5 || stats.Unasked+stats.Late+stats.Deaths != 0 || stats.Running != 0 {
		t.Errorf("counts %+v", stats)
	}
}

func TestManyStreamsAndCallsShareTheWorkers(t *testing.T) {
	p, _ := startPool(t, Config{Size: 2, MaxMessage: 1000})
	ended := make(chan error)
	const readers = 12
	for range readers {
		go func() {
			parts, err := collect(t, p, "count", "500")
			wantCount(t, parts, 500)
			for range 100 { // part and end come together
				parts, also := collect(t, p, "count", "1")
				wantCount(t, parts, 1)
				err = errors.Join(err, also)
			}
			ended <- err
		}()
	}
	for range 200 {
		mustCall(t, p, "echo", "")
	}
	for range readers {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestAStreamCarriesMoreThanItsWindow(t *testing.T) {
	const limit, want = 1 << 12, 100
	p, _ := startPool(t, Config{MaxMessage: limit})
	n := 0
	for part, err := range p.Stream(testContext(t), "endless", []byte(strconv.Itoa(limit))) {
		if err != nil || len(part) != limit {
			t.Fatalf("part %d: %d bytes, %v", n, len(part), err)
		}
		if n++; n == want {
			break
		}
	}
}

func TestAHandlerWhoseReaderIsBehindWaits(t *testing.T) {
	const limit = 1 << 16
	p, _ := startPool(t, Config{MaxMessage: limit})
	for _, size := range []int{0, 100, limit} {
		before, _ := strconv.Atoi(mustCall(t, p, "sent", ""))
		cost := size + messageCost
		most := (limit + cost - 1) / cost // the window, the last part of which may go beyond it
		if 2*cost >= limit {
			most++ // the one that was read was at least half of it
		}
		for _, err := range p.Stream(testContext(t), "endless", []byte(strconv.Itoa(size))) {
			if err != nil {
				t.Fatal(err)
			}
			count := func() int { n, _ := strconv.Atoi(mustCall(t, p, "sent", "")); return n - before }
			eventually(t, "the window is full", func() bool { return count() >= most })
			for range 100 { // others go on
				if n := count(); n > most {
					t.Fatalf("size %d: %d parts, of at most %d", size, n, most)
				}
			}
			break
		}
	}
}

func TestAReaderThatLeavesCancelsTheHandler(t *testing.T) {
	p, _ := startPool(t, Config{Grace: -1})
	for range p.Stream(testContext(t), "endless", []byte("10")) {
		break
	}
	eventually(t, "the handler ends", func() bool { return p.Stats().Running == 0 })
	if got := mustCall(t, p, "last send", ""); got != context.Canceled.Error() {
		t.Errorf("Send returned %q", got)
	}
	// A loop that panics has left, too.
	func() {
		defer func() { _ = recover() }()
		for range p.Stream(testContext(t), "endless", []byte("10")) {
			panic("of the reader")
		}
	}()
	eventually(t, "the handler ends", func() bool { return p.Stats().Running == 0 })
	if stats := p.Stats(); stats.Deaths != 0 || stats.Late != 2 || stats.Unasked != 0 {
		t.Errorf("counts %+v", stats)
	}
}

func TestAStreamEndsWithItsContextWhileItsReaderIsBusy(t *testing.T) {
	p, _ := startPool(t, Config{Grace: -1})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var last error
	for _, err := range p.Stream(ctx, "endless", []byte("10")) {
		if last = err; err == nil {
			cancel()
			eventually(t, "the handler ends", func() bool { return p.Stats().Running == 0 })
		}
	}
	wantErrors(t, last, []error{context.Canceled, ErrOutcomeUnknown}, ErrNotSent)
}

func TestAStreamThatHasNoEndTimesOut(t *testing.T) {
	p, _ := startPool(t, Config{Timeout: 20 * time.Millisecond, Grace: -1})
	last, n := error(nil), 0
	for _, err := range p.Stream(testContext(t), "endless", []byte("1000")) {
		if last = err; err == nil {
			n++
		}
	}
	wantErrors(t, last, []error{context.DeadlineExceeded})
	if n == 0 {
		t.Error("no part has come")
	}
	_, err := collect(t, p, "wait", "", Timeout(time.Millisecond))
	wantErrors(t, err, []error{context.DeadlineExceeded})
	eventually(t, "the handlers end", func() bool { return p.Stats().Running == 0 })
}

func TestAStreamWhoseHandlerIsDeafIsKilled(t *testing.T) {
	p, j := startPool(t, Config{Grace: 20 * time.Millisecond})
	for range p.Stream(testContext(t), "count and hang", []byte("1")) {
		break
	}
	death := j.await(t, "a death", func(e Event) bool { return e.Kind == EventEnded }).Death
	if death.Reason != ReasonStuck {
		t.Errorf("death %v", death)
	}
}

func TestAStreamThatHasBegunIsNotStartedAgain(t *testing.T) {
	p, j := startPool(t, Config{})
	for _, n := range []int{1, 1000} {
		parts, err := collect(t, p, "count and exit", strconv.Itoa(n))
		wantCount(t, parts, n)
		wantErrors(t, err, []error{ErrOutcomeUnknown}, ErrNotSent, ErrPoison)
		var death *DeathError
		if !errors.As(err, &death) || death.Attempts != 1 || death.Death.ExitCode != 7 {
			t.Errorf("error %v", err)
		}
	}
	if deaths := j.deaths(); len(deaths) != 2 || len(deaths[0].Suspects) != 1 || !deaths[0].Suspects[0].Blamed {
		t.Errorf("deaths %+v", deaths)
	}
}

func TestAStreamIsStartedAgainBeforeItsFirstPart(t *testing.T) {
	p, _ := startPool(t, Config{})
	parts, err := collect(t, p, "exit, then count", "5")
	wantCount(t, parts, 5)
	wantErrors(t, err, nil)
	if deaths := p.Stats().Deaths; err != nil || deaths != 1 {
		t.Errorf("%d deaths, %v", deaths, err)
	}
	_, err = collect(t, p, "exit", "")
	wantErrors(t, err, []error{ErrPoison})
	_, err = collect(t, p, "exit", "", AtMostOnce())
	wantErrors(t, err, []error{ErrOutcomeUnknown}, ErrPoison)
}

func TestAHandlerThatSendsAfterItsStreamHasEndedGetsAnError(t *testing.T) {
	p, _ := startPool(t, Config{Grace: -1})
	for range p.Stream(testContext(t), "afterwards", nil) {
		break
	}
	eventually(t, "it is cancelled", func() bool { return p.Stats().Running == 0 })
	if got := mustCall(t, p, "last send", ""); got != context.Canceled.Error() {
		t.Errorf("Send returned %q after the cancellation", got)
	}
	parts, err := collect(t, p, "lasting", "")
	if len(parts) != 0 || err != nil {
		t.Errorf("%q, %v", parts, err)
	}
	eventually(t, "it has sent", func() bool { return mustCall(t, p, "last send", "") != "" })
	if stats := p.Stats(); stats.Deaths+stats.Unasked != 0 {
		t.Errorf("counts %+v", stats)
	}
}

func TestWhatCannotBeAStreamIsAnError(t *testing.T) {
	p, _ := startPool(t, Config{MaxMessage: 1000})
	_, err := p.Call(testContext(t), "count", []byte("1"))
	var remote *RemoteError
	if !errors.As(err, &remote) || remote.Message != ErrNoStream.Error() {
		t.Errorf("Send in a call: %v", err)
	}
	_, err = collect(t, p, "send too much", "1001")
	if !errors.As(err, &remote) {
		t.Errorf("a part above the limit: %v", err)
	}
	_, err = collect(t, p, "nothing", "")
	wantErrors(t, err, []error{ErrUnknownMethod})
	_, err = collect(t, p, "count", string(make([]byte, 1001)))
	wantErrors(t, err, []error{ErrTooLarge, ErrNotSent})
	_ = p.Close()
	_, err = collect(t, p, "count", "1")
	wantErrors(t, err, []error{ErrClosed, ErrNotSent})
}

func TestCloseLetsAStreamEnd(t *testing.T) {
	p, _ := startPool(t, Config{})
	closed := make(chan error, 1)
	n := 0
	for _, err := range p.Stream(testContext(t), "count", []byte("100000")) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 1 {
			go func() { closed <- p.Close() }()
			eventually(t, "the pool is shut", func() bool {
				_, err := p.Call(testContext(t), "echo", nil)
				return errors.Is(err, ErrClosed)
			})
		}
	}
	if err := <-closed; err != nil || n != 100000 {
		t.Errorf("%d parts, %v", n, err)
	}
}

func TestAStreamWithTypes(t *testing.T) {
	p, _ := startPool(t, Config{})
	var got []int
	for n, err := range squares.Stream(testContext(t), p, 4) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, n)
	}
	if fmt.Sprint(got) != "[0 1 4 9]" {
		t.Errorf("parts %v", got)
	}
}

var squares = Method[int, int]{Name: "squares"}

var _ = func() bool {
	testHandlers[squares.Name] = squares.StreamHandler(func(_ context.Context, n int, send func(int) error) error {
		for i := range n {
			if err := send(i * i); err != nil {
				return err
			}
		}
		return nil
	})
	return true
}()

// Each breaks a rule of streams, after a call for one has come.
var brokenStreams = map[string]func(*rogue, uint64){
	"a part before the start": func(r *rogue, id uint64) { r.send(kindPart, header{id: id}, nil) },
	"a part that is too large": func(r *rogue, id uint64) {
		r.send(kindStarted, header{id: id}, nil)
		r.send(kindPart, header{id: id}, make([]byte, 1001))
	},
	"parts that were not allowed": func(r *rogue, id uint64) {
		r.send(kindStarted, header{id: id}, nil)
		for range 1000/messageCost + 2 {
			r.send(kindPart, header{id: id}, nil)
		}
	},
	"a part with a status": func(r *rogue, id uint64) {
		r.send(kindStarted, header{id: id}, nil)
		r.send(kindPart, header{id: id, methodSize: 1}, []byte("x"))
	},
}

func init() {
	for name, worst := range brokenStreams {
		roguePart("stream: "+name, func(r *rogue) {
			r.hello()
			worst(r, r.request())
		})
	}
}

func TestAWorkerThatBreaksTheRulesOfStreamsIsKilled(t *testing.T) {
	for name := range brokenStreams {
		t.Run(name, func(t *testing.T) {
			p, j := startPool(t, quick(Config{Command: command(t, "stream: "+name), MaxMessage: 1000, MaxQuickDeaths: 2}))
			var last error
			for _, err := range p.Stream(testContext(t), "echo", nil, MaxAttempts(1)) {
				if last = err; err == nil { // behind, until it has broken the rule
					j.await(t, "a death", func(e Event) bool { return e.Kind == EventEnded })
				}
			}
			if last == nil {
				t.Error("no error")
			}
			var malformed *malformedError
			if death := j.deaths()[0]; death.Reason != ReasonBroken || !errors.As(death.Err, &malformed) {
				t.Errorf("death %v", death)
			}
		})
	}
}

var _ = roguePart("parts of nothing, and after the end", func(r *rogue) {
	r.hello()
	id := r.request()
	r.send(kindStarted, header{id: id}, nil)
	r.send(kindPart, header{id: id + 1}, []byte("of nothing"))
	r.send(kindPart, header{id: id}, []byte("good"))
	r.send(kindAnswer, header{id: id, number: statusEnd}, nil)
	r.send(kindPart, header{id: id}, []byte("after the end"))
})

func TestPartsThatNobodyAskedForAreCountedAndDropped(t *testing.T) {
	p, _ := startPool(t, Config{Command: command(t, "parts of nothing, and after the end"), StopTimeout: 20 * time.Millisecond})
	parts, err := collect(t, p, "echo", "")
	if len(parts) != 1 || parts[0] != "good" || err != nil {
		t.Errorf("%q, %v", parts, err)
	}
	eventually(t, "both are counted", func() bool { return p.Stats().Unasked == 2 })
}
