//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"
)

// Pairs that last: longer than every deadline that was set on their way, and over many
// heartbeats, with every option at its smallest.

// smallestOptions are the least that can be asked for. A handshake may have to wait for a
// busy machine, and is tried again then.
func smallestOptions() *Options {
	o := hostileOptions()
	o.HeartbeatInterval = time.Millisecond
	o.HangTimeout, o.StallTimeout = 3*o.HeartbeatInterval, time.Nanosecond
	o.HandshakeTimeout, o.CloseTimeout = 20*time.Millisecond, time.Nanosecond
	return o
}

// dialUntil dials until a handshake is quick enough.
func dialUntil(t *testing.T, path string, o *Options) *Endpoint {
	t.Helper()
	ctx := testContext(t)
	for {
		client, err := Dial(ctx, path, o)
		if err == nil {
			t.Cleanup(func() { _ = client.Close() })
			return client
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

// outlast returns when twenty heartbeats of each side and several times each deadline
// have passed.
func outlast(t *testing.T, o *Options, pair ...*Endpoint) {
	t.Helper()
	begun, beats := time.Now(), make([]uint64, len(pair))
	for i, e := range pair {
		beats[i] = e.own.control.beat.Load()
	}
	eventually(t, "twenty heartbeats", func() bool {
		for i, e := range pair {
			if e.own.control.beat.Load() < beats[i]+20 {
				return false
			}
		}
		return time.Since(begun) > 5*o.HandshakeTimeout
	})
}

func TestL5AnIdlePairOutlastsEveryDeadline(t *testing.T) {
	type waits map[string]func(ctx context.Context, e *Endpoint) error
	receive := func(ctx context.Context, e *Endpoint) error { _, err := receiveIn(ctx, e); return err }
	flush := func(ctx context.Context, e *Endpoint) error { return e.Flush(ctx) }
	for name, wait := range (waits{"nobody waits": nil, "both receive": receive, "both flush": flush}) {
		t.Run(name, func(t *testing.T) {
			o := smallestOptions()
			server := listenHere(t, testPath(t), o)
			client := dialUntil(t, server.Path(), o)
			attachment := client.Attachment()
			results := make(chan error, 2)
			ctx := testContext(t)
			if name == "both flush" {
				sendAll(t, server, 1)
				sendAll(t, client, 1)
			}
			for _, e := range []*Endpoint{server, client} {
				if wait != nil {
					go func() { results <- wait(ctx, e) }()
				}
			}
			outlast(t, o, server, client)
			switch name {
			case "both receive":
				sendAll(t, server, 1)
				sendAll(t, client, 1)
			default:
				for _, e := range []*Endpoint{server, client} {
					if name == "nobody waits" {
						sendAll(t, map[bool]*Endpoint{true: client, false: server}[e == server], 1)
					}
					if _, err := receiveOne(t, e); err != nil {
						t.Errorf("the %v receives: %v", e.Role(), err)
					}
				}
			}
			if wait != nil {
				for range 2 {
					if err := <-results; err != nil {
						t.Errorf("the wait ends with %v", err)
					}
				}
			}
			if err := client.Err(); err != nil || client.Attachment() != attachment || server.Attachment() != attachment {
				t.Errorf("the client has %v, and is number %d and %d, was %d", err, client.Attachment(), server.Attachment(), attachment)
			}
			if deaths := server.Stats().Deaths + server.Stats().Closes; deaths != 0 {
				t.Errorf("the server has counted %d ends", deaths)
			}
		})
	}
}

// A context that was watched for a wait is watched again after another one, or none that
// can end, has been: its end wakes a sleeper that nothing else would wake (W3).
func TestM7AContextIsWatchedAgainAfterAnother(t *testing.T) {
	for _, between := range []string{"another", "none"} {
		t.Run(between, func(t *testing.T) {
			options, sleeping := signalSleeps(longHeartbeat())
			options.ToClientSize, options.Spin = os.Getpagesize(), NoSpin
			server := listenHere(t, testPath(t), options)
			client := dialHere(t, server.Path(), longHeartbeat())
			receive := func(ctx context.Context) error { _, err := receiveIn(ctx, server); return err }
			send := func(ctx context.Context) error { return server.Send(ctx, 1, make([]byte, 1<<10)) }
			for err := error(nil); err == nil; err = server.TrySend(1, make([]byte, 1<<10)) { // the ring is full
			}
			for _, call := range []struct {
				name string
				make func(context.Context) error
				ends func() // what ends it
			}{
				{"Receive", receive, func() { sendAll(t, client, 1) }},
				{"Send", send, func() { _, _ = receiveOne(t, client) }},
			} {
				lasting, end := context.WithCancel(t.Context())
				other := context.Background()
				if between == "another" {
					ctx, cancel := context.WithCancel(other)
					defer cancel()
					other = ctx
				}
				sleep := func(ctx context.Context, wake func()) error {
					for len(sleeping) > 0 {
						<-sleeping
					}
					result := make(chan error, 1)
					go func() { result <- call.make(ctx) }()
					<-sleeping
					wake()
					select {
					case err := <-result:
						return err
					case <-time.After(watchdog):
						return errors.New("sleeps on")
					}
				}
				for _, ctx := range []context.Context{lasting, other} {
					if err := sleep(ctx, call.ends); err != nil {
						t.Fatalf("%s: %v", call.name, err)
					}
				}
				if err := sleep(lasting, end); !errors.Is(err, context.Canceled) {
					t.Errorf("%s, whose context ends: %v", call.name, err)
				}
			}
		})
	}
}
