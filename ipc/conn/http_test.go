//go:build linux && (amd64 || arm64)

package conn

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// handler is what the tests ask of a server.
func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/digest", func(w http.ResponseWriter, r *http.Request) {
		digest := sha256.New()
		if _, err := io.Copy(digest, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprintf(w, "%x over %s", digest.Sum(nil), r.Proto)
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		buffer := make([]byte, 4096)
		for {
			n, err := r.Body.Read(buffer)
			_, _ = w.Write(buffer[:n])
			_ = http.NewResponseController(w).Flush()
			if err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, endless{})
	})
	return mux
}

// protocols are those of the standard library that need no TLS.
var protocols = map[string]func(*http.Protocols){
	"HTTP/1.1": func(p *http.Protocols) { p.SetHTTP1(true) },
	"HTTP/2.0": func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) },
}

func newHTTPServer(set func(*http.Protocols), h http.Handler) *http.Server {
	server := &http.Server{Handler: h, Protocols: new(http.Protocols), ReadHeaderTimeout: watchdog}
	set(server.Protocols)
	return server
}

func newHTTPClient(set func(*http.Protocols), dial func(ctx context.Context, network, address string) (net.Conn, error)) *http.Client {
	transport := &http.Transport{DialContext: dial, Protocols: new(http.Protocols)}
	set(transport.Protocols)
	return &http.Client{Transport: transport}
}

// overHTTP runs a test over each protocol, with a server that serves the handler: over a fresh
// pair, and over one whose listener has lived through kills.
func overHTTP(t *testing.T, h http.Handler, run func(t *testing.T, proto string, p *pair, server *http.Server, client *http.Client)) {
	pairs := map[string]func(*testing.T) *pair{"fresh": func(t *testing.T) *pair { return newPair(t, nil) }, "after kills": survivors}
	for proto, set := range protocols {
		for which, makePair := range pairs {
			t.Run(proto+" "+which, func(t *testing.T) {
				p := makePair(t)
				server := newHTTPServer(set, h)
				served := make(chan error, 1)
				go func() { served <- server.Serve(p.listener) }()
				client := newHTTPClient(set, p.dialer.DialContext)
				run(t, proto, p, server, client)
				client.CloseIdleConnections()
				if err := server.Close(); err != nil {
					t.Error(err)
				}
				if err := <-served; !errors.Is(err, http.ErrServerClosed) {
					t.Error(err)
				}
			})
		}
	}
}

func TestHTTPTakesManyRequestsWithLargeBodies(t *testing.T) {
	overHTTP(t, handler(), func(t *testing.T, proto string, _ *pair, _ *http.Server, client *http.Client) {
		body := pattern(5 << 20)
		want := fmt.Sprintf("%x over %s", sha256.Sum256(body), proto)
		var all sync.WaitGroup
		for range 8 {
			all.Add(1)
			go func() {
				defer all.Done()
				for range 3 {
					response, err := client.Post("http://worker/digest", "", bytes.NewReader(body))
					if err != nil {
						t.Error(err)
						return
					}
					got, err := io.ReadAll(response.Body)
					_ = response.Body.Close()
					if err != nil || string(got) != want {
						t.Errorf("got %q, %v, want %q", got, err, want)
					}
				}
			}()
		}
		within(t, "all requests", func() bool { all.Wait(); return true })
	})
}

func TestHTTPStreamsBothWaysAtOnce(t *testing.T) {
	overHTTP(t, handler(), func(t *testing.T, _ string, _ *pair, _ *http.Server, client *http.Client) {
		read, write := io.Pipe()
		request, _ := http.NewRequestWithContext(testContext(t), http.MethodPost, "http://worker/echo", read)
		go func() { _, _ = io.WriteString(write, "0") }()
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		for i := range 100 {
			got := make([]byte, 1)
			if _, err := io.ReadFull(response.Body, got); err != nil || got[0] != '0'+byte(i%10) {
				t.Fatalf("part %d: %q, %v", i, got, err)
			}
			if _, err := write.Write([]byte{'0' + byte((i+1)%10)}); err != nil {
				t.Fatal(err)
			}
		}
		_ = write.Close()
		if _, err := io.ReadAll(response.Body); err != nil {
			t.Fatal(err)
		}
	})
}

func TestHTTPCancellationReachesTheHandler(t *testing.T) {
	ended := make(chan error, 1)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(w, endless{})
		<-r.Context().Done()
		ended <- err
	})
	overHTTP(t, h, func(t *testing.T, _ string, p *pair, _ *http.Server, client *http.Client) {
		ctx, cancel := context.WithCancel(testContext(t))
		request, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://worker/", nil)
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := checkBlocks(t, response.Body, 1<<20); err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := io.Copy(io.Discard, response.Body); !errors.Is(err, context.Canceled) {
			t.Fatalf("the body ended with %v", err)
		}
		if err := within(t, "the handler", func() error { return <-ended }); err == nil {
			t.Fatal("the handler's write did not fail")
		}
		_ = response.Body.Close()
		client.CloseIdleConnections()
		eventually(t, "nothing is kept of the connection", func() bool { return p.connsKept() == 0 })
	})
}

func TestHTTPTimeoutsAreTimeouts(t *testing.T) {
	release := make(chan struct{})
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release })
	t.Cleanup(func() { close(release) })
	overHTTP(t, h, func(t *testing.T, _ string, _ *pair, _ *http.Server, client *http.Client) {
		client.Timeout = 20 * time.Millisecond
		_, err := client.Get("http://worker/")
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Fatalf("error %v, want a timeout", err)
		}
	})
}

func TestHTTPShutdownWaitsForRequests(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		<-answer
		_, _ = io.WriteString(w, "after the shutdown began")
	})
	overHTTP(t, h, func(t *testing.T, _ string, p *pair, server *http.Server, client *http.Client) {
		got := make(chan string, 1)
		go func() {
			response, err := client.Get("http://worker/")
			if err != nil {
				got <- err.Error()
				return
			}
			text, err := io.ReadAll(response.Body)
			_ = response.Body.Close()
			got <- fmt.Sprint(string(text), err)
		}()
		<-asked
		shut := make(chan error, 1)
		server.RegisterOnShutdown(func() { close(shut) })
		down := make(chan error, 1)
		go func() { down <- server.Shutdown(testContext(t)) }()
		<-shut
		answer <- struct{}{}
		if text := within(t, "the request", func() string { return <-got }); text != "after the shutdown began<nil>" {
			t.Fatal(text)
		}
		client.CloseIdleConnections()
		if err := within(t, "Shutdown", func() error { return <-down }); err != nil {
			t.Fatal(err)
		}
		within(t, "the pair closes", func() bool { <-p.listener.Closed(); return true })
		wantNothingLeft(t, p.dialer.path)
	})
}

// An HTTP server in a process of its own, over all protocols.
var _ = part("http server", func(path string) {
	listener, err := Listen(context.Background(), path, &Options{IPC: &ipc.Options{Wait: true}})
	check(err)
	say("listening")
	check(newHTTPServer(func(p *http.Protocols) { p.SetHTTP1(true); p.SetUnencryptedHTTP2(true) }, handler()).Serve(listener))
})

func TestHTTPClientOutlivesAKilledServer(t *testing.T) {
	for proto, set := range protocols {
		t.Run(proto, func(t *testing.T) {
			path := testPath(t)
			dialer := NewDialer(path, nil)
			defer dialer.Close()
			client := newHTTPClient(set, dialer.DialContext)
			for range 3 {
				server := start(t, "http server", path)
				server.expect("listening")
				response, err := client.Get("http://worker/endless")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := checkBlocks(t, response.Body, 2<<20); err != nil {
					t.Fatal(err)
				}
				server.kill()
				if _, err := checkBlocks(t, onlyReader{response.Body}, 1<<30); !errors.Is(err, ipc.ErrPeerDied) {
					t.Fatalf("the body ended with %v, want ErrPeerDied", err)
				}
				_ = response.Body.Close()
			}
		})
	}
}

// An HTTP client that reads an endless answer until it is killed.
func endlessRequest(set func(*http.Protocols)) func(path string) {
	return func(path string) {
		response, err := newHTTPClient(set, NewDialer(path, nil).DialContext).Get("http://worker/")
		check(err)
		_, err = io.CopyN(io.Discard, response.Body, 2<<20)
		check(err)
		say("reading")
		_, err = io.Copy(io.Discard, response.Body)
		check(err)
	}
}

var (
	_ = part("client of HTTP/1.1", endlessRequest(protocols["HTTP/1.1"]))
	_ = part("client of HTTP/2.0", endlessRequest(protocols["HTTP/2.0"]))
)

func TestHTTPServerOutlivesKilledClients(t *testing.T) {
	ended := make(chan error, 1)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(w, endless{})
		<-r.Context().Done() // a death cancels the request
		ended <- err
	})
	for proto, set := range protocols {
		t.Run(proto, func(t *testing.T) {
			path := testPath(t)
			listener, err := Listen(testContext(t), path, nil)
			if err != nil {
				t.Fatal(err)
			}
			server := newHTTPServer(set, h)
			served := make(chan error, 1)
			go func() { served <- server.Serve(listener) }()
			for range 3 {
				client := start(t, "client of "+proto, path)
				client.expect("reading")
				client.kill()
				if err := within(t, "the handler", func() error { return <-ended }); err == nil {
					t.Fatal("the handler's write did not fail")
				}
			}
			if err := server.Close(); err != nil {
				t.Fatal(err)
			}
			<-served
			within(t, "the pair closes", func() bool { <-listener.Closed(); return true })
			wantNothingLeft(t, path)
		})
	}
}
