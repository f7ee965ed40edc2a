//go:build linux && (amd64 || arm64)

package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
)

type sum struct{ A, B int }

func sums(codec Codec) Method[sum, int] {
	return Method[sum, int]{Name: fmt.Sprintf("sum by %T", codec), Codec: codec}
}

var (
	bytesOf    = Method[[]byte, []byte]{Name: "bytes", Codec: Raw}
	unencoded  = Method[chan int, int]{Name: "unencoded"}
	mismatched = Method[string, chan int]{Name: "mismatched"}
	attempts   = Method[int, int]{Name: "attempts"}
)

var _ = part("typed", func() {
	add := func(_ context.Context, s sum) (int, error) { return s.A + s.B, nil }
	leave(Serve(context.Background(), Handlers{
		sums(nil).Name:  sums(nil).Handler(add),
		sums(JSON).Name: sums(JSON).Handler(add),
		sums(Gob).Name:  sums(Gob).Handler(add),
		bytesOf.Name:    bytesOf.Handler(func(_ context.Context, data []byte) ([]byte, error) { return append(data, '!'), nil }),
		mismatched.Name: func(context.Context, *Request) ([]byte, error) { return []byte("{}"), nil },
		attempts.Name: attempts.Handler(func(ctx context.Context, want int) (int, error) {
			if Attempt(ctx) < want {
				os.Exit(1)
			}
			return Attempt(ctx), nil
		}),
	}))
})

func TestTypedCallsWorkWithEachCodec(t *testing.T) {
	p, _ := startPool(t, Config{Command: command(t, "typed")})
	for _, codec := range []Codec{nil, JSON, Gob} {
		if got, err := sums(codec).Call(testContext(t), p, sum{20, 22}); err != nil || got != 42 {
			t.Errorf("%T: %d, %v", codec, got, err)
		}
	}
	if got, err := bytesOf.Call(testContext(t), p, []byte("raw")); err != nil || string(got) != "raw!" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := attempts.Call(testContext(t), p, 2); err != nil || got != 2 {
		t.Errorf("attempt %d, %v", got, err)
	}
}

func TestACodecThatFailsSaysWhetherTheWorkWasDone(t *testing.T) {
	p, _ := startPool(t, Config{Command: command(t, "typed")})
	_, err := unencoded.Call(testContext(t), p, nil)
	wantErrors(t, err, []error{ErrNotSent})
	_, err = mismatched.Call(testContext(t), p, "")
	if err == nil {
		t.Error("an answer of another type is accepted")
	}
	wantErrors(t, err, nil, ErrNotSent, ErrOutcomeUnknown)
	_, err = Method[string, int]{Name: sums(JSON).Name}.Call(testContext(t), p, "no sum")
	var remote *RemoteError
	if !errors.As(err, &remote) {
		t.Errorf("error %v", err)
	}
	_, err = Method[string, string]{Name: bytesOf.Name, Codec: Raw}.Call(testContext(t), p, "")
	wantErrors(t, err, []error{ErrNotSent})
	var into string
	if Raw.Decode(nil, &into) == nil {
		t.Error("raw bytes become a string")
	}
}
