//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// passesOn names each private field of a server, or what begins with it, that may differ
// when a client is attached by what was before it, and says why. Every other one must be
// what it is at a server that had no client before (L7): its silence, its hang, what it
// was suspected of, how long it was waited for.
var passesOn = map[string]string{
	// The server itself is another.
	"path":          "each server's own",
	"life.listener": "each server's own",
	"life.socket":   "each server's own",
	"life.shown":    "each server's own, and made anew for each client",

	// Messages are kept for the next client (M1), and positions go on (I1).
	"current.from.writePos": "where the client began", "current.from.readPos": "where the client began",
	"current.from.deliveredPos": "where the client began",
	"out.writePos":              "a position", "out.readPos": "a position", "out.freePos": "a position", "out.filled": "a position",
	"out.starts": "of the records in the ring",
	"in.cursor":  "a position", "in.deliveredPos": "a position", "in.writePos": "a position", "in.views.readPos": "a position",
	"in.views.first": "counts views", "in.views.next": "counts views", "in.views.marked": "counts views", "in.views.queue": "grows with the views that were held at once",
	"deliveredSeen": "what was delivered comes again marked (M3)",
	"out.outlived":  "what a corrupt client may have seen (M3); said by hasOutlived",

	// Memory that was spoilt is replaced.
	"renewals": "counts replaced memories", "out.renewal": "counts replaced memories", "in.views.renewal": "counts replaced memories",
	"life.memories": "which user's memory was used",

	// Clients, what they did and what was done for them are counted.
	"attachment": "a number", "current.number": "a number", "newest": "a number", "life.granted": "a number",
	"granted.Attachment": "a number", "in.stay": "a number", "in.known": "whether in.stay is looked up", "in.starved.state": "the numbers and positions it was last asked for",
	"tally": "counts", "out.sent": "counts", "in.received": "counts", "bell": "counts wake-ups and sleeps", "missed": "counts events that nobody took",
	"lastEnd": "for Flush, which counts the ends that it has seen",
}

// lookedAtByNobody names the fields that another goroutine has for itself.
var lookedAtByNobody = map[string]string{
	"life.lost":        "the look's own",
	"life.lostFiles":   "the look's own",
	"life.connections": "the accept loop's own",
}

// fieldsOf are the values of all plain fields below an endpoint, by their path: of
// pointers, functions and channels whether they are set, of collections their length.
//
// Preconditions: no call is under way.
func fieldsOf(e *Endpoint) map[string]string {
	server := e.life.(*server)
	server.admission.Lock()
	defer server.admission.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	found := map[string]string{}
	var walk func(path string, v reflect.Value)
	walk = func(path string, v reflect.Value) {
		if lookedAtByNobody[path] != "" {
			return
		}
		if value, atomic := loadAtomic(v); atomic {
			found[path] = value
			return
		}
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				walk(strings.TrimPrefix(path+"."+v.Type().Field(i).Name, "."), v.Field(i))
			}
		case reflect.Array:
			for i := range v.Len() {
				walk(fmt.Sprintf("%s[%d]", path, i), v.Index(i))
			}
		case reflect.Bool, reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint8, reflect.Uint32, reflect.Uint64, reflect.String:
			found[path] = fmt.Sprint(v)
		case reflect.Slice, reflect.Map:
			found[path] = fmt.Sprint(v.Len())
		default:
			found[path] = fmt.Sprint(!v.IsNil())
		}
	}
	walk("", reflect.ValueOf(e).Elem())
	walk("life", reflect.ValueOf(server).Elem())
	if server.current != nil {
		walk("current", reflect.ValueOf(server.current).Elem())
	}
	return found
}

// loadAtomic is the value of what other goroutines may store meanwhile. A lock has none.
func loadAtomic(v reflect.Value) (value string, atomic bool) {
	at := func() any { return reflect.NewAt(v.Type(), v.Addr().UnsafePointer()).Interface() }
	switch v.Type().PkgPath() {
	case "sync":
		return "", true
	case "sync/atomic":
		return fmt.Sprint(reflect.ValueOf(at()).MethodByName("Load").Call(nil)[0]), true
	}
	return "", false
}

// lastingOptions tell silence and standstills soon.
func lastingOptions() *Options {
	o := hostileOptions()
	o.HeartbeatInterval, o.StallTimeout = 5*time.Millisecond, 15*time.Millisecond
	o.HangTimeout = 3 * o.HeartbeatInterval
	return o
}

// A former is a client that leaves as much as it can behind.
type former struct {
	name string
	live func(t *testing.T, server *Endpoint)
}

var formers = []former{
	{"was silent, stood still and was corrupt", func(t *testing.T, server *Endpoint) {
		sendAll(t, server, 1, 2)
		client := rawAttach(t, server.Path()) // it does not beat
		untilEvent(t, server, EventAttached)
		untilEvent(t, server, EventHung)
		client.spoil()
		checkEndOfHostile(t, receiveUntilEnd(t, server), "I1")
		client.leave()
		untilEvent(t, server, EventDied)
	}},
	{"was killed with views and messages", func(t *testing.T, server *Endpoint) {
		a := startActor(t, actorArgument{Path: server.Path()})
		a.ask("attached", "dial")
		untilEvent(t, server, EventAttached)
		sendAll(t, server, 1, 2, 3)
		a.ask("sent", "send 4 5")
		m, err := server.Receive(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		a.kill()
		untilEvent(t, server, EventDied)
		if _, err := receiveAll(t, server); !errors.Is(err, ErrPeerDied) {
			t.Fatal(err)
		}
		if err := m.Release(); err != nil {
			t.Fatal(err)
		}
	}},
	{"closed", func(t *testing.T, server *Endpoint) {
		client := dialHere(t, server.Path(), nil)
		untilEvent(t, server, EventAttached)
		sendAll(t, client, 1)
		if _, err := receiveOne(t, server); err != nil {
			t.Fatal(err)
		}
		_ = client.Close()
		untilEvent(t, server, EventClosed)
		if _, err := receiveOne(t, server); !errors.Is(err, ErrPeerClosed) {
			t.Fatal(err)
		}
	}},
}

// untilEvent passes over what a busy machine tells besides: silence and standstills.
func untilEvent(t *testing.T, e *Endpoint, want EventKind) {
	t.Helper()
	for event := range e.Events() {
		if event.Kind == want {
			return
		}
		if event.Kind == EventDied || event.Kind == EventClosed {
			t.Fatalf("event %+v, want %v", event, want)
		}
	}
}

func receiveOne(t *testing.T, e *Endpoint) (Message, error) {
	t.Helper()
	return receiveIn(testContext(t), e)
}

func receiveIn(ctx context.Context, e *Endpoint) (Message, error) {
	m, err := e.Receive(ctx)
	if err == nil {
		err = m.Release()
	}
	return m, err
}

// fieldsBesideAClient has a client come that is as any other, and returns what the server is then.
func fieldsBesideAClient(t *testing.T, server *Endpoint) map[string]string {
	t.Helper()
	client := dialHere(t, server.Path(), lastingOptions())
	untilEvent(t, server, EventAttached)
	sendAll(t, server, 6)
	for {
		m, err := receiveOne(t, client)
		if err != nil {
			t.Fatal(err)
		}
		if m.Kind == 6 {
			break
		}
	}
	sendAll(t, client, 7)
	if _, err := receiveOne(t, server); err != nil {
		t.Fatal(err)
	}
	return fieldsOf(server)
}

func TestL7NothingOfAClientPassesToItsSuccessor(t *testing.T) {
	fresh := fieldsBesideAClient(t, listenHere(t, testPath(t), lastingOptions()))
	named := func(path string) bool {
		for name := range passesOn {
			if path == name || strings.HasPrefix(path, name+".") || strings.HasPrefix(path, name+"[") {
				return true
			}
		}
		return false
	}
	for _, former := range formers {
		t.Run(former.name, func(t *testing.T) {
			server := listenHere(t, testPath(t), lastingOptions())
			former.live(t, server)
			if server.hung.Load() { // the successor's first beat would take it back
				t.Errorf("nobody is there, behind a client that %s, and it is called hung", former.name)
			}
			beside := fieldsBesideAClient(t, server)
			for _, path := range slices.Sorted(maps.Keys(beside)) {
				if beside[path] != fresh[path] && !named(path) {
					t.Errorf("%s is %s behind a client that %s, and %s without one", path, beside[path], former.name, fresh[path])
				}
			}
		})
	}
	for name := range passesOn {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(fresh)), func(path string) bool { return strings.HasPrefix(path, name) }) {
			t.Errorf("passesOn names %s, which a server has not", name)
		}
	}
}
