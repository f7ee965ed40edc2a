//go:build linux

package main

import (
	"slices"
	"time"

	m "github.com/tandem-ipc/tandem/internal/measure"
)

// foreign are the contenders that build.sh makes: the executable of each.
var foreign = map[string]string{
	"spsc": "spsc", "boost": "boost", "unix-c": "unix", "aeron": "aeron", "iceoryx2-pubsub": "iceoryx2", "iceoryx2-requests": "iceoryx2",
}

// never are those that were asked for and could not be had, each with the reason.
var never = []m.Absent{
	{Contender: "mangos", Why: "its module could not be downloaded (go.nanomsg.org/mangos/v3)"},
	{Contender: "shmipc-go", Why: "its module could not be downloaded (github.com/cloudwego/shmipc-go)"},
}

// The sizes of messages.
const (
	kib = 1 << 10
	mib = 1 << 20
)

var (
	allSizes  = []int{8, 64, 256, kib, 4 * kib, 64 * kib, mib, 4 * mib}
	fewSizes  = []int{64, 4 * kib, 64 * kib, mib}
	twoSizes  = []int{64, 4 * kib}
	oneSize   = []int{64}
	asleepFor = 200 * time.Microsecond
)

// A block is cells that differ by contender and size only. Not every combination is
// measured: each block answers one question.
type block struct {
	cell       m.Cell
	sizes      []int
	contenders []string
	flights    []int
}

// plan is what is measured.
var plan = []block{
	// A round trip where both sides spin: what the channel costs, and no kernel.
	{m.Cell{Work: m.RoundTrip, Form: m.Copy, Wait: m.Spin, Place: m.Apart}, allSizes, []string{"tandem", "spsc", "boost", "iceoryx2-pubsub"}, nil},
	{m.Cell{Work: m.RoundTrip, Form: m.View, Wait: m.Spin, Place: m.Apart}, allSizes, []string{"tandem", "iceoryx2-pubsub"}, nil},
	{m.Cell{Work: m.RoundTrip, Form: m.Copy, Wait: m.Spin, Place: m.Apart}, fewSizes, []string{"aeron", "iceoryx2-requests"}, nil}, // Aeron takes a second to start
	// A round trip as each does it if nobody says how to wait.
	{m.Cell{Work: m.RoundTrip, Form: m.Copy, Wait: m.Default, Place: m.Apart}, fewSizes,
		[]string{"tandem", "unix", "unix-raw", "unix-c", "seqpacket", "tcp", "pipe", "net/rpc", "http", "grpc", "grpc-stream", "go-plugin", "zeromq", "flipcall", "channel", "goroutine-ring"}, nil},
	{m.Cell{Work: m.RoundTrip, Form: m.Copy, Wait: m.Block, Place: m.Apart}, twoSizes, []string{"tandem", "unix", "unix-raw", "unix-c", "pipe", "flipcall", "boost", "iceoryx2-pubsub"}, nil},
	// A stream.
	{m.Cell{Work: m.OneWay, Form: m.Copy, Wait: m.Default, Place: m.Apart}, allSizes, []string{"tandem", "unix", "spsc"}, nil},
	{m.Cell{Work: m.OneWay, Form: m.View, Wait: m.Default, Place: m.Apart}, allSizes, []string{"tandem"}, nil},
	{m.Cell{Work: m.OneWay, Form: m.Batch, Wait: m.Default, Place: m.Apart}, allSizes, []string{"tandem", "unix", "unix-c"}, nil},
	{m.Cell{Work: m.OneWay, Form: m.Copy, Wait: m.Default, Place: m.Apart}, fewSizes,
		[]string{"seqpacket", "tcp", "pipe", "grpc-stream", "zeromq", "boost", "iceoryx2-pubsub", "channel", "goroutine-ring", "call", "memcpy"}, nil},
	{m.Cell{Work: m.OneWay, Form: m.View, Wait: m.Default, Place: m.Apart}, fewSizes, []string{"spsc", "iceoryx2-pubsub", "aeron"}, nil},
	{m.Cell{Work: m.Both, Form: m.Copy, Wait: m.Default, Place: m.Apart}, twoSizes, []string{"tandem", "unix", "tcp", "pipe", "grpc-stream", "zeromq", "spsc", "boost", "iceoryx2-pubsub"}, nil},
	{m.Cell{Work: m.Both, Form: m.Batch, Wait: m.Default, Place: m.Apart}, twoSizes, []string{"tandem", "unix"}, nil},
	// Requests and answers, some under way.
	{m.Cell{Work: m.Requests, Form: m.Copy, Wait: m.Default, Place: m.Apart}, oneSize,
		[]string{"tandem", "unix", "tcp", "net/rpc", "http", "grpc", "grpc-stream", "go-plugin", "zeromq", "spsc", "iceoryx2-requests", "boost"}, []int{1, 16, 256}},
	{m.Cell{Work: m.Requests, Form: m.Copy, Wait: m.Default, Place: m.Apart}, oneSize, []string{"aeron"}, []int{16}},
	{m.Cell{Work: m.Requests, Form: m.Batch, Wait: m.Default, Place: m.Apart}, oneSize, []string{"tandem", "unix"}, []int{16, 256}},
	// Each message finds the peer asleep.
	{m.Cell{Work: m.RoundTrip, Form: m.Copy, Wait: m.Default, Place: m.Free, Pause: asleepFor}, oneSize,
		[]string{"tandem", "unix", "unix-c", "tcp", "pipe", "net/rpc", "grpc", "zeromq", "flipcall"}, nil},
	{m.Cell{Work: m.RoundTrip, Form: m.Copy, Wait: m.Block, Place: m.Free, Pause: asleepFor}, oneSize, []string{"tandem", "boost", "iceoryx2-pubsub"}, nil},
	// Other work keeps all processors busy.
	{m.Cell{Work: m.RoundTrip, Form: m.Copy, Wait: m.Default, Place: m.Free, Busy: true}, oneSize,
		[]string{"tandem", "unix", "unix-c", "tcp", "pipe", "net/rpc", "http", "grpc", "zeromq", "flipcall"}, nil},
	{m.Cell{Work: m.RoundTrip, Form: m.Copy, Wait: m.Block, Place: m.Free, Busy: true}, oneSize, []string{"tandem", "boost"}, nil},
	{m.Cell{Work: m.RoundTrip, Form: m.Copy, Wait: m.Spin, Place: m.Free, Busy: true}, oneSize, []string{"tandem", "spsc"}, nil},
	// One processor for both.
	{m.Cell{Work: m.RoundTrip, Form: m.Copy, Wait: m.Default, Place: m.Together}, oneSize,
		[]string{"tandem", "unix", "unix-c", "tcp", "pipe", "net/rpc", "grpc", "zeromq", "flipcall"}, nil},
	{m.Cell{Work: m.RoundTrip, Form: m.Copy, Wait: m.Block, Place: m.Together}, oneSize, []string{"tandem", "boost"}, nil},
	// The same as one way of measuring after the other does it: see the page, "Two figures".
	{m.Cell{Work: m.OneWay, Form: m.Copy, Wait: m.Spin, Place: m.Apart}, oneSize, []string{"tandem"}, nil},
	{m.Cell{Work: m.OneWay, Form: m.Copy, Wait: m.Default, Place: m.Apart, Bare: true}, oneSize, []string{"tandem"}, nil},
	{m.Cell{Work: m.OneWay, Form: m.Copy, Wait: m.Default, Place: m.Apart, Short: true}, oneSize, []string{"tandem"}, nil},
	{m.Cell{Work: m.OneWay, Form: m.Copy, Wait: m.Default, Place: m.Apart, Bare: true, Short: true}, oneSize, []string{"tandem"}, nil},
}

// rings are measured by -scale.
var rings = []block{
	ringOf(64 * kib), ringOf(256 * kib), ringOf(mib), ringOf(4 * mib), ringOf(16 * mib), ringOf(64 * mib),
}

func ringOf(size int) block {
	return block{m.Cell{Work: m.OneWay, Form: m.Copy, Wait: m.Default, Place: m.Apart, Ring: size}, []int{64, 4 * kib}, []string{"tandem"}, nil}
}

// cellsOf gives each cell once.
func cellsOf(blocks []block) (cells []m.Cell) {
	seen := map[string]bool{}
	for _, b := range blocks {
		flights := b.flights
		if flights == nil {
			flights = []int{1}
		}
		for _, size := range b.sizes {
			for _, contender := range b.contenders {
				for _, flight := range flights {
					cell := b.cell
					cell.Size, cell.Contender, cell.InFlight = size, contender, flight
					if !seen[cell.Name()] {
						seen[cell.Name()] = true
						cells = append(cells, cell)
					}
				}
			}
		}
	}
	return cells
}

// deaths are which contenders' sides are killed, and counted are those whose messages
// are counted then.
var (
	deaths = []struct{ contender, victim string }{
		{"tandem", "client"}, {"tandem", "server"}, {"unix", "client"}, {"unix", "server"}, {"seqpacket", "server"},
		{"tcp", "server"}, {"net/rpc", "server"}, {"http", "server"}, {"grpc", "server"}, {"pipe", "server"},
		{"flipcall", "server"}, {"zeromq", "server"}, {"go-plugin", "server"},
	}
	losses = []struct{ contender, form string }{
		{"tandem", m.View}, {"unix", m.Copy}, {"unix", m.Batch}, {"seqpacket", m.Copy}, {"tcp", m.Copy}, {"grpc-stream", m.Copy}, {"zeromq", m.Copy}, {"pipe", m.Copy},
	}
	idle = []struct{ contender, wait string }{
		{"tandem", m.Default}, {"tandem", m.Block}, {"unix", m.Default}, {"tcp", m.Default}, {"grpc", m.Default}, {"zeromq", m.Default},
	}
	pairs = []int{1, 10, 100, 1000}
)

// traced are the cells whose system calls are counted.
func traced() []m.Cell {
	waits := []m.Cell{
		{Work: m.RoundTrip, Form: m.Copy, Wait: m.Default, Place: m.Apart, Size: 64},
		{Work: m.OneWay, Form: m.Copy, Wait: m.Default, Place: m.Apart, Size: 64},
	}
	var cells []m.Cell
	for _, cell := range waits {
		for _, contender := range []string{"tandem", "unix", "unix-raw", "seqpacket", "tcp", "pipe", "net/rpc", "http", "grpc", "grpc-stream", "zeromq", "flipcall"} {
			cell.Contender = contender
			if cell.Work == m.OneWay && slices.Contains([]string{"net/rpc", "http", "grpc", "flipcall"}, contender) {
				continue // calls only
			}
			cells = append(cells, cell)
		}
	}
	block := waits[0]
	block.Contender, block.Wait = "tandem", m.Block
	return append(cells, block)
}
