package worker

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"iter"
)

// A Method is a method with types, which service and worker share:
//
//	var Thumbnail = worker.Method[Picture, Picture]{Name: "thumbnail"}
//
//	small, err := Thumbnail.Call(ctx, pool, large)                       // in the service
//	worker.Handlers{Thumbnail.Name: Thumbnail.Handler(thumbnail)}        // in the worker
type Method[Req, Resp any] struct {
	Name  string
	Codec Codec // JSON if nil
}

// A Codec turns values into bytes and back. That for protobuf messages is a module of its
// own, integrations/protobuf.
type Codec interface {
	Encode(value any) ([]byte, error)
	Decode(data []byte, into any) error
}

// JSON and Gob are the codecs of the standard library's packages. Raw is for
// []byte, and copies nothing.
var (
	JSON Codec = jsonCodec{}
	Gob  Codec = gobCodec{}
	Raw  Codec = rawCodec{}
)

// Call is Pool.Call with types. A request that cannot be encoded is ErrNotSent; with an
// answer that cannot be decoded the handler has done its work.
func (m Method[Req, Resp]) Call(ctx context.Context, p *Pool, request Req, options ...CallOption) (Resp, error) {
	return m.exchange(request, func(data []byte) ([]byte, error) { return p.Call(ctx, m.Name, data, options...) })
}

// Stream is Pool.Stream with types.
func (m Method[Req, Resp]) Stream(ctx context.Context, p *Pool, request Req, options ...CallOption) iter.Seq2[Resp, error] {
	return func(yield func(Resp, error) bool) {
		var none Resp
		data, err := m.codec().Encode(request)
		if err != nil {
			yield(none, notSent(fmt.Errorf("worker: the request of %s cannot be encoded: %w", m.Name, err)))
			return
		}
		for part, err := range p.Stream(ctx, m.Name, data, options...) {
			var response Resp
			if err == nil {
				if err = m.codec().Decode(part, &response); err != nil {
					err = fmt.Errorf("worker: a part of %s cannot be decoded: %w", m.Name, err)
				}
			}
			if err != nil {
				yield(none, err)
				return
			}
			if !yield(response, nil) {
				return
			}
		}
	}
}

// StreamHandler is a handler that sends any number of answers, as Request.Send does.
func (m Method[Req, Resp]) StreamHandler(handle func(ctx context.Context, request Req, send func(Resp) error) error) Handler {
	return func(ctx context.Context, r *Request) ([]byte, error) {
		var request Req
		if err := m.codec().Decode(r.Data, &request); err != nil {
			return nil, fmt.Errorf("the request cannot be decoded: %w", err)
		}
		return nil, handle(context.WithValue(ctx, attemptKey{}, r.Attempt), request, func(response Resp) error {
			part, err := m.codec().Encode(response)
			if err != nil {
				return err
			}
			return r.Send(part)
		})
	}
}

// Ask is the function Ask with types.
func (m Method[Req, Resp]) Ask(ctx context.Context, request Req) (Resp, error) {
	return m.exchange(request, func(data []byte) ([]byte, error) { return Ask(ctx, m.Name, data) })
}

// Notify is Pool.Notify with types. What the handler returns goes nowhere.
func (m Method[Req, Resp]) Notify(ctx context.Context, p *Pool, message Req) (told int, err error) {
	data, err := m.codec().Encode(message)
	if err != nil {
		return 0, fmt.Errorf("worker: the notification %s cannot be encoded: %w", m.Name, err)
	}
	return p.Notify(ctx, m.Name, data)
}

// Tell is the function Tell with types. What the handler returns goes nowhere.
func (m Method[Req, Resp]) Tell(ctx context.Context, message Req) error {
	data, err := m.codec().Encode(message)
	if err != nil {
		return fmt.Errorf("worker: the notification %s cannot be encoded: %w", m.Name, err)
	}
	return Tell(ctx, m.Name, data)
}

func (m Method[Req, Resp]) exchange(request Req, call func([]byte) ([]byte, error)) (Resp, error) {
	var response Resp
	data, err := m.codec().Encode(request)
	if err != nil {
		return response, notSent(fmt.Errorf("worker: the request of %s cannot be encoded: %w", m.Name, err))
	}
	answer, err := call(data)
	if err != nil {
		return response, err
	}
	if err := m.codec().Decode(answer, &response); err != nil {
		return response, fmt.Errorf("worker: the answer of %s cannot be decoded: %w", m.Name, err)
	}
	return response, nil
}

// Handler is a handler of this method. Attempt tells from its context what
// Request.Attempt does.
func (m Method[Req, Resp]) Handler(handle func(context.Context, Req) (Resp, error)) Handler {
	return func(ctx context.Context, r *Request) ([]byte, error) {
		var request Req
		if err := m.codec().Decode(r.Data, &request); err != nil {
			return nil, fmt.Errorf("the request cannot be decoded: %w", err)
		}
		response, err := handle(context.WithValue(ctx, attemptKey{}, r.Attempt), request)
		if err != nil {
			return nil, err
		}
		return m.codec().Encode(response)
	}
}

func (m Method[Req, Resp]) codec() Codec {
	if m.Codec == nil {
		return JSON
	}
	return m.Codec
}

type attemptKey struct{}

// Attempt is Request.Attempt in a handler of a Method; 0 elsewhere.
func Attempt(ctx context.Context) int {
	n, _ := ctx.Value(attemptKey{}).(int)
	return n
}

type jsonCodec struct{}

func (jsonCodec) Encode(value any) ([]byte, error)   { return json.Marshal(value) }
func (jsonCodec) Decode(data []byte, into any) error { return json.Unmarshal(data, into) }

type gobCodec struct{}

func (gobCodec) Encode(value any) ([]byte, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(value)
	return b.Bytes(), err
}

func (gobCodec) Decode(data []byte, into any) error {
	return gob.NewDecoder(bytes.NewReader(data)).Decode(into)
}

type rawCodec struct{}

func (rawCodec) Encode(value any) ([]byte, error) {
	data, ok := value.([]byte)
	if !ok {
		return nil, fmt.Errorf("%T is not []byte", value)
	}
	return data, nil
}

func (rawCodec) Decode(data []byte, into any) error {
	to, ok := into.(*[]byte)
	if !ok {
		return fmt.Errorf("%T is not *[]byte", into)
	}
	*to = data
	return nil
}
