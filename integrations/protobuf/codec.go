// Package tandemproto lets the typed calls of ipc/worker carry protobuf messages: calls,
// streams, asks and notifications.
//
// The types of such a method are the pointers that protoc-gen-go generates:
//
//	var Resize = worker.Method[*pb.Picture, *pb.Picture]{Name: "resize", Codec: tandemproto.Codec}
//
// What does not fit is an error, and the worker lives on: bytes that are no message of the
// type, a nil message, another type. A request that cannot be encoded is worker.ErrNotSent.
// A handler that returns a nil message has failed: its caller gets a worker.RemoteError.
// An empty message is a message.
package tandemproto

import (
	"fmt"
	"reflect"

	"google.golang.org/protobuf/proto"

	"github.com/tandem-ipc/tandem/ipc/worker"
)

// Codec encodes messages in protobuf's wire format, as proto.Marshal does. It decodes
// into a pointer to a message's pointer, which is what a worker.Method gives it: that
// then points to a new message, or stays as it was if there is an error.
var Codec worker.Codec = codec{}

type codec struct{}

func (codec) Encode(value any) ([]byte, error) {
	message, ok := value.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is not a proto.Message", value)
	}
	// proto.Marshal takes nil for an empty message, and the other side would get that.
	if v := reflect.ValueOf(value); v.Kind() == reflect.Pointer && v.IsNil() || !message.ProtoReflect().IsValid() {
		return nil, fmt.Errorf("%T is nil, or has no type", value)
	}
	return proto.Marshal(message)
}

func (codec) Decode(data []byte, into any) error {
	to := reflect.ValueOf(into)
	if to.Kind() != reflect.Pointer || to.IsNil() || to.Type().Elem().Kind() != reflect.Pointer {
		return fmt.Errorf("%T is not a pointer to a message's pointer", into)
	}
	fresh := reflect.New(to.Type().Elem().Elem())
	message, ok := fresh.Interface().(proto.Message)
	if !ok || !message.ProtoReflect().IsValid() { // dynamicpb.Message does not know its type
		return fmt.Errorf("%T is not a generated proto.Message", fresh.Interface())
	}
	if err := proto.Unmarshal(data, message); err != nil {
		return err
	}
	to.Elem().Set(fresh)
	return nil
}
