//go:build linux && (amd64 || arm64)

package conn

import (
	"context"
	"errors"
	"net"
	"reflect"
	"strings"
	"testing"
)

// wantClosed checks what a method has returned: what something that is closed says.
func wantClosed(t *testing.T, method string, returned reflect.Value) {
	t.Helper()
	switch v := returned.Interface().(type) {
	case error:
		var fault *net.OpError
		if !errors.Is(v, net.ErrClosed) || !errors.As(v, &fault) || fault.Net != Network || v.Error() == "" {
			t.Errorf("%s gave %v, want net.ErrClosed in a *net.OpError", method, v)
		}
	case <-chan struct{}:
		within(t, method, func() any { <-v; return nil })
	case Addr:
		if v != "" || v.Network() != Network {
			t.Errorf("%s gave %q", method, v)
		}
	default:
		if !returned.IsZero() {
			t.Errorf("%s gave %v", method, v)
		}
	}
}

// Each method says of what nobody has opened that it is closed, as often as it is asked.
func TestWhatNobodyHasOpenedIsClosed(t *testing.T) {
	for _, of := range []any{(*Conn)(nil), new(Conn), (*Listener)(nil), new(Listener), (*Dialer)(nil), new(Dialer)} {
		value := reflect.ValueOf(of)
		if value.NumMethod() < 3 {
			t.Fatalf("%T: the methods are not found: the test is blind", of)
		}
		for range 2 {
			for i := range value.NumMethod() {
				method := value.Method(i)
				name := value.Type().Elem().Name() + "." + value.Type().Method(i).Name
				if strings.Contains(name, "Planted") {
					continue // a bug that is asleep
				}
				var args []reflect.Value
				for i := range method.Type().NumIn() {
					if in := method.Type().In(i); in == reflect.TypeFor[context.Context]() {
						args = append(args, reflect.ValueOf(testContext(t)))
					} else if in.Kind() == reflect.Slice {
						args = append(args, reflect.MakeSlice(in, 10, 10))
					} else {
						args = append(args, reflect.Zero(in))
					}
				}
				results := within(t, name, func() (results []reflect.Value) {
					defer func() {
						if cause := recover(); cause != nil {
							t.Errorf("%s panics: %v", name, cause)
						}
					}()
					return method.Call(args)
				})
				for i, result := range results {
					if result.Kind() == reflect.Interface && result.IsNil() && (method.Type().Out(i) == reflect.TypeFor[error]()) {
						t.Errorf("%s of %v gave no error", name, of)
					} else if result.Kind() != reflect.Interface || !result.IsNil() {
						wantClosed(t, name, result)
					}
				}
			}
		}
	}
}

// A nil context is an error, and leaves nothing behind.
func TestANilContextIsAnError(t *testing.T) {
	var none context.Context
	path := testPath(t)
	if l, err := Listen(none, path, nil); l != nil || err == nil {
		t.Errorf("Listen gave %v, %v", l, err)
	}
	p := newPair(t, nil)
	_, err := p.dialer.Dial(none)
	wantError(t, err, errNoContext)
	_, err = p.dialer.DialContext(none, "", "")
	wantError(t, err, errNoContext)
	server, client := p.connect()
	mustWrite(t, client, "hello")
	mustRead(t, server, "hello")
}
