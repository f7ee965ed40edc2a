//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"iter"
	"os"
	"reflect"
	"testing"

	"github.com/tandem-ipc/tandem/internal/step"
)

// argumentsOf are arguments for a method, none of them empty where it matters.
func argumentsOf(method reflect.Type, ctx context.Context) (args []reflect.Value) {
	for i := range method.NumIn() {
		switch in := method.In(i); {
		case in == reflect.TypeFor[context.Context]():
			args = append(args, reflect.ValueOf(&ctx).Elem())
		case in.Kind() == reflect.Slice:
			args = append(args, reflect.MakeSlice(in, 100, 100))
		default:
			args = append(args, reflect.Zero(in))
		}
	}
	return args
}

// isClosed reports whether what a method has returned is what a closed endpoint says.
func isClosed(t *testing.T, returned reflect.Value) bool {
	switch v := returned.Interface().(type) {
	case error:
		return errors.Is(v, ErrClosed)
	case <-chan struct{}:
		select {
		case <-v:
			return true
		default:
			return false
		}
	case <-chan Event:
		_, open := <-v
		return !open
	case iter.Seq2[Message, error]:
		count := 0
		for m, err := range v {
			if count++; m.Data != nil || !errors.Is(err, ErrClosed) {
				t.Errorf("it yields %+v, %v", m, err)
			}
		}
		return count == 1
	}
	return returned.IsZero()
}

// Each method says of an endpoint that nobody has made that it is closed, as often as
// it is asked.
func TestT4ANilOrZeroEndpointIsClosed(t *testing.T) {
	for name, e := range map[string]*Endpoint{"nil": nil, "zero": new(Endpoint)} {
		endpoint := reflect.ValueOf(e)
		if endpoint.NumMethod() < 25 {
			t.Fatal("the methods are not found: the test is blind")
		}
		for range 2 {
			for i := range endpoint.NumMethod() {
				method := endpoint.Type().Method(i).Name
				var results []reflect.Value
				if end := endingOf(func() {
					results = endpoint.Method(i).Call(argumentsOf(endpoint.Method(i).Type(), context.Background()))
				}); end != nil {
					t.Errorf("%s of a %s endpoint: %+v", method, name, *end)
					continue
				}
				fails := false
				for _, result := range results {
					fails = fails || result.Type() == reflect.TypeFor[error]() && !result.IsNil()
					if !isClosed(t, result) {
						t.Errorf("%s of a %s endpoint gave %v", method, name, result)
					}
				}
				if last := endpoint.Method(i).Type().Out(len(results) - 1); last == reflect.TypeFor[error]() && !fails {
					t.Errorf("%s of a %s endpoint gave no error", method, name)
				}
			}
		}
	}
	for name, err := range map[string]error{
		"Release": Message{}.Release(), "ReleaseBatch": ReleaseBatch(make([]Message, 2)),
		"Commit": Reservation{}.Commit(1, 0), "Abort": Reservation{}.Abort(),
	} {
		if !errors.Is(err, ErrReleased) {
			t.Errorf("%s of a zero value gave %v", name, err)
		}
	}
}

// A nil context is an error that says so, and leaves nothing behind.
func TestT4ANilContextIsAnError(t *testing.T) {
	var none context.Context
	checkError := func(name string, err error) {
		t.Helper()
		if !errors.Is(err, errNoContext) {
			t.Errorf("%s with a nil context gave %v, want %v", name, err, errNoContext)
		}
	}
	path := testPath(t)
	_, err := Listen(none, path, nil)
	checkError("Listen", err)
	_, err = Dial(none, path, nil)
	checkError("Dial", err)
	server, client := pair(t, hostileOptions(), hostileOptions())
	for client.TrySend(1, make([]byte, 1000)) == nil { // what is sent now would wait
	}
	endpoint, looked := reflect.ValueOf(client), 0
	for i := range endpoint.NumMethod() {
		method := endpoint.Method(i)
		if method.Type().NumIn() == 0 || method.Type().In(0) != reflect.TypeFor[context.Context]() {
			continue
		}
		looked++
		args := argumentsOf(method.Type(), none)
		if last := len(args) - 1; last >= 0 && args[last].Kind() == reflect.Int {
			args[last] = reflect.ValueOf(1000)
		} else if args[last].Kind() == reflect.Slice && args[last].Type() == reflect.TypeFor[[]byte]() {
			args[last] = reflect.ValueOf(make([]byte, 1000))
		}
		results := method.Call(args)
		switch v := results[len(results)-1].Interface().(type) {
		case error:
			checkError(endpoint.Type().Method(i).Name, v)
		case iter.Seq2[Message, error]:
			for _, err := range v {
				checkError(endpoint.Type().Method(i).Name, err)
			}
		default:
			t.Errorf("%s with a nil context gave %v", endpoint.Type().Method(i).Name, v)
		}
	}
	if looked < 9 {
		t.Errorf("only %d methods take a context: the test is blind", looked)
	}
	drainNow(t, server)
	checkUsable(t, server, client)
}

// What the caller changes in its own options later, a list of users too, changes
// nothing.
func TestT4OptionsAreReadOnce(t *testing.T) {
	self := uint32(os.Geteuid())
	path := testPath(t)
	allowed, trusted := []uint32{self}, []uint32{self}
	server := listenHere(t, path, &Options{AllowUIDs: allowed})
	allowed[0]++
	o := &Options{ServerUIDs: trusted}
	o.hook = func(at step.ID, _ uint64) {
		if at == step.DialBegun {
			trusted[0] = self + 1
			o.ServerUIDs = trusted
		}
	}
	client := dialHere(t, path, o)
	checkUsable(t, server, client)
	waits := make(chan *Endpoint)
	go func() {
		_ = server.Close() // waits for the client, which Redial closes
		e, _ := Listen(testContext(t), path, nil)
		waits <- e
	}()
	awaitState(t, client, PeerClosed) // else Redial may find the same server again
	next, err := client.Redial(testContext(t))
	if err != nil {
		t.Fatalf("Redial: %v", err)
	}
	again := <-waits
	checkUsable(t, again, next)
	_, _ = next.Close(), again.Close()
}

// A batch is read once: a message that is another by the time that its space is found
// is sent as it was.
func TestT4ABatchIsReadOnce(t *testing.T) {
	for name, send := range map[string]func(*Endpoint, []Message) (int, error){
		"SendBatch":    func(e *Endpoint, batch []Message) (int, error) { return e.SendBatch(testContext(t), batch) },
		"TrySendBatch": (*Endpoint).TrySendBatch,
	} {
		var batch []Message
		claimed := 0
		options := hostileOptions()
		options.hook = func(at step.ID, _ uint64) {
			if at == step.Claimed && batch != nil {
				batch[claimed] = Message{Kind: 9, Data: make([]byte, 4000)}
				claimed++
			}
		}
		server, client := pair(t, hostileOptions(), options)
		sendAll(t, client, 1, 2)
		batch = []Message{{Kind: 3, Data: pattern(3)}, {Kind: 4, Data: pattern(4)}}
		if n, err := send(client, batch); n != 2 || err != nil {
			t.Fatalf("%s sent %d, %v", name, n, err)
		}
		batch = nil
		for kind := uint32(1); kind <= 4; kind++ {
			m, err := server.Receive(testContext(t))
			if err != nil || m.Kind != kind || checkPattern(m) != nil {
				t.Fatalf("%s: received message %d, %v; want %d", name, m.Kind, err, kind)
			}
			_ = m.Release()
		}
	}
}

// Nor is a slice that is received into read back: who changes it harms nobody else.
func TestT4ABatchThatIsReceivedIsNotReadBack(t *testing.T) {
	buffer := make([]byte, 4096)
	for name, receive := range map[string]func(*Endpoint, []Message) (int, error){
		"ReceiveBatch": func(e *Endpoint, into []Message) (int, error) { return e.ReceiveBatch(testContext(t), into) },
		"ReceiveBatchInto": func(e *Endpoint, into []Message) (int, error) {
			return e.ReceiveBatchInto(testContext(t), buffer, into)
		},
	} {
		var into []Message
		options := hostileOptions()
		options.hook = func(at step.ID, _ uint64) {
			if at == step.Delivered {
				for i := range into {
					into[i].Data = buffer[:0]
				}
			}
		}
		server, client := pair(t, options, hostileOptions())
		sendAll(t, client, 1, 2, 3)
		into = make([]Message, 3)
		n, err := receive(server, into)
		if n != 3 || err != nil {
			t.Fatalf("%s received %d, %v", name, n, err)
		}
		for i := range into {
			if err := checkPattern(into[i]); name == "ReceiveBatchInto" && err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := ReleaseBatch(into); name == "ReceiveBatch" && err != nil {
			t.Errorf("%s: release: %v", name, err)
		}
		if left, err := client.Unreleased(); err != nil || len(left) != 0 {
			t.Errorf("%s: %d unreleased, %v; want none", name, len(left), err)
		}
		sendAll(t, client, 4)
		if m, err := server.Receive(testContext(t)); err != nil || m.Kind != 4 {
			t.Errorf("%s: behind it came %+v, %v", name, m, err)
		}
	}
}
