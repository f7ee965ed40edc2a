//go:build linux && (amd64 || arm64)

package tandemproto_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	tandemproto "github.com/tandem-ipc/tandem/integrations/protobuf"
	"github.com/tandem-ipc/tandem/ipc/worker"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func TestACallCarriesMessages(t *testing.T) {
	s, ctx := start(t)
	if got, err := shout.Call(ctx, s.Pool, wrapperspb.String("hello")); err != nil || got.GetValue() != "HELLO" {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := double.Call(ctx, s.Pool, durationpb.New(time.Minute)); err != nil || got.AsDuration() != 2*time.Minute {
		t.Errorf("%v, %v", got, err)
	}
	request := must(structpb.NewStruct(map[string]any{"list": []any{1, "two", nil, map[string]any{"three": true}}}))
	want := must(structpb.NewList([]any{map[string]any{"three": true}, nil, "two", 1}))
	if got, err := reverse.Call(ctx, s.Pool, request); err != nil || !proto.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := reverse.Call(ctx, s.Pool, &structpb.Struct{}); err != nil || got == nil || len(got.GetValues()) != 0 {
		t.Errorf("an empty message is %v, %v", got, err)
	}
	var remote *worker.RemoteError
	if _, err := shout.Call(ctx, s.Pool, wrapperspb.String("")); !errors.As(err, &remote) || remote.Message != "there is no text" {
		t.Errorf("the handler's error is %v", err)
	}
	s.nobodyDied(t, ctx)
}

func TestAStreamCarriesMessages(t *testing.T) {
	s, ctx := start(t)
	var got []int64
	for part, err := range count.Stream(ctx, s.Pool, wrapperspb.Int64(4)) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, part.GetValue())
	}
	if !slices.Equal(got, []int64{0, 1, 2, 3}) {
		t.Errorf("parts %v", got)
	}
	s.nobodyDied(t, ctx)
}

func TestAnAskCarriesMessages(t *testing.T) {
	s, ctx := start(t)
	if got, err := greet.Call(ctx, s.Pool, &emptypb.Empty{}); err != nil || got.GetValue() != "Hello, world!" {
		t.Errorf("%v, %v", got, err)
	}
	s.nobodyDied(t, ctx)
}

func TestANotificationCarriesMessagesBothWays(t *testing.T) {
	s, ctx := start(t)
	if _, err := greet.Call(ctx, s.Pool, &emptypb.Empty{}); err != nil { // so it serves
		t.Fatal(err)
	}
	if told, err := report.Notify(ctx, s.Pool, wrapperspb.String("half")); told != 1 || err != nil {
		t.Fatalf("told %d, %v", told, err)
	}
	select {
	case got := <-s.reports:
		if got != "half" {
			t.Errorf("it comes back as %q", got)
		}
	case <-ctx.Done():
		t.Error("it does not come back")
	}
	s.nobodyDied(t, ctx)
}

func TestACallWhoseWorkerDiesCarriesItsMessageAgain(t *testing.T) {
	s, ctx := start(t)
	request := must(structpb.NewStruct(map[string]any{"key": "value"}))
	if got, err := flaky.Call(ctx, s.Pool, request); err != nil || !proto.Equal(got, request) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestAMessageThatCannotBeEncodedIsNotSent(t *testing.T) {
	s, ctx := start(t)
	wrong := worker.Method[string, string]{Name: shout.Name, Codec: tandemproto.Codec}
	for what, err := range map[string]error{
		"nil":        second(shout.Call(ctx, s.Pool, nil)),
		"a string":   second(wrong.Call(ctx, s.Pool, "hello")),
		"not UTF-8":  second(shout.Call(ctx, s.Pool, wrapperspb.String("\xff"))),
		"in a value": second(reverse.Call(ctx, s.Pool, &structpb.Struct{Fields: map[string]*structpb.Value{"\xff": nil}})),
	} {
		if !errors.Is(err, worker.ErrNotSent) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for part, err := range count.Stream(ctx, s.Pool, nil) {
		if !errors.Is(err, worker.ErrNotSent) {
			t.Errorf("a stream of nil: %v, %v", part, err)
		}
	}
	if told, err := report.Notify(ctx, s.Pool, nil); told != 0 || err == nil {
		t.Errorf("a notification of nil: told %d, %v", told, err)
	}
	s.nobodyDied(t, ctx)
}

func TestAHandlerWithoutAMessageHasFailed(t *testing.T) {
	s, ctx := start(t)
	var remote *worker.RemoteError
	if _, err := nothing.Call(ctx, s.Pool, &emptypb.Empty{}); !errors.As(err, &remote) || !strings.Contains(remote.Message, "nil") {
		t.Errorf("an answer of nil: %v", err)
	}
	parts := 0
	for part, err := range count.Stream(ctx, s.Pool, wrapperspb.Int64(-1)) {
		if parts++; !errors.As(err, &remote) || !strings.Contains(remote.Message, "nil") {
			t.Errorf("a part of nil: %v, %v", part, err)
		}
	}
	if parts != 1 {
		t.Errorf("a stream whose part is nil has %d parts", parts)
	}
	s.nobodyDied(t, ctx)
}

func TestBytesThatAreNoMessageAreAnError(t *testing.T) {
	s, ctx := start(t)
	var remote *worker.RemoteError
	if _, err := s.Call(ctx, shout.Name, []byte{0xff}); !errors.As(err, &remote) || !strings.Contains(remote.Message, "cannot be decoded") {
		t.Errorf("a request: %v", err)
	}
	answer := malformed
	answer.Name = "malformed answer"
	if got, err := answer.Call(ctx, s.Pool, &emptypb.Empty{}); got != nil || err == nil || errors.Is(err, worker.ErrNotSent) || errors.As(err, &remote) {
		t.Errorf("an answer: %v, %v", got, err)
	}
	parts := 0
	for part, err := range malformed.Stream(ctx, s.Pool, &emptypb.Empty{}) {
		if parts++; part != nil || err == nil || !strings.Contains(err.Error(), "cannot be decoded") {
			t.Errorf("a part: %v, %v", part, err)
		}
	}
	if parts != 1 {
		t.Errorf("a stream whose part is malformed has %d parts", parts)
	}
	s.nobodyDied(t, ctx)
}

func TestTheCodecRefusesWhatIsNoMessage(t *testing.T) {
	dynamic := dynamicpb.NewMessage(wrapperspb.String("").ProtoReflect().Descriptor())
	for what, value := range map[string]any{
		"nothing":                  nil,
		"a string":                 "text",
		"a message's pointer's":    new(*wrapperspb.StringValue),
		"nil":                      (*wrapperspb.StringValue)(nil),
		"a dynamic nil":            (*dynamicpb.Message)(nil),
		"a message without a type": &dynamicpb.Message{},
		"no message inside":        &struct{ *wrapperspb.StringValue }{},
		"a required field missing": &descriptorpb.UninterpretedOption_NamePart{},
	} {
		if data, err := tandemproto.Codec.Encode(value); err == nil {
			t.Errorf("%s is encoded as %q", what, data)
		}
	}
	if data, err := tandemproto.Codec.Encode(dynamic); err != nil || len(data) != 0 {
		t.Errorf("a dynamic message is encoded as %q, %v", data, err)
	}
	var message proto.Message
	for what, into := range map[string]any{
		"nothing":               nil,
		"a string":              "text",
		"a string's pointer":    new(string),
		"a nil pointer":         (**wrapperspb.StringValue)(nil),
		"an interface":          &message,
		"a message":             &wrapperspb.StringValue{},
		"no message":            new(*string),
		"a message of any type": new(*dynamicpb.Message),
		"no message inside":     new(*struct{ *wrapperspb.StringValue }),
	} {
		if err := tandemproto.Codec.Decode(nil, into); err == nil {
			t.Errorf("%s is decoded into", what)
		}
	}
}

func TestADecodeThatFailsChangesNothing(t *testing.T) {
	for what, data := range map[string][]byte{
		"cut off":           {10, 5, 'h'},
		"no field":          {0, 0},
		"a length too much": {10, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"a group unended":   {0x1b},
		"not UTF-8":         {10, 1, 0xff},
	} {
		before := wrapperspb.String("before")
		into := before
		if err := tandemproto.Codec.Decode(data, &into); err == nil || into != before || into.GetValue() != "before" {
			t.Errorf("%s: %v, %v", what, into, err)
		}
	}
	var into *structpb.ListValue
	if err := tandemproto.Codec.Decode(nested(6000), &into); err == nil || into != nil {
		t.Errorf("nested too deep: %v", err)
	}
}

// nested is a list in a list, and so on.
func nested(depth int) (data []byte) {
	for range depth {
		for _, field := range []protowire.Number{6, 1} { // Value.list_value, ListValue.values
			data = protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), data)
		}
	}
	return data
}

func second[T any](_ T, err error) error { return err }

// Whatever bytes come, they are an error, or a message that goes through the codec as it is.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{10, 5, 'h'})
	f.Add(must(tandemproto.Codec.Encode(must(structpb.NewStruct(map[string]any{"list": []any{1, "two", nil, true}})))))
	f.Fuzz(func(t *testing.T, data []byte) {
		var message, again *structpb.Struct
		if err := tandemproto.Codec.Decode(data, &message); err != nil {
			if message != nil {
				t.Errorf("%v, and there is a message", err)
			}
			return
		}
		encoded, err := tandemproto.Codec.Encode(message)
		if err != nil {
			t.Fatalf("what was decoded is not encoded: %v", err)
		}
		if err := tandemproto.Codec.Decode(encoded, &again); err != nil || !proto.Equal(message, again) {
			t.Errorf("%v becomes %v, %v", message, again, err)
		}
	})
}
