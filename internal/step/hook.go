package step

// A Hook is called at every named step of an endpoint, with the position or number that
// the step is about. It exists for tests, which kill the process in it, and it must not
// call the endpoint.
//
// A panic of it, or its runtime.Goexit (t.FailNow), ends the call that came to the step:
// Close when all is closed. In a goroutine of the endpoint's own a panic ends the process,
// and a Goexit nothing but the hook.
type Hook = func(at ID, value uint64)

// Watched has a hook called at every step of the endpoints that are opened with options,
// which are ipc.Options, and returns them. The hook is not among them, because it is not
// for users.
func Watched[Options any](options *Options, hook Hook) *Options {
	return WatchedFrom(options, 0, hook)
}

// WatchedFrom is Watched, and has the positions of a new generation begin at start, a
// multiple of 8, in both directions, as if so much had been sent before. The hook gets
// their distance from there.
func WatchedFrom[Options any](options *Options, start uint64, hook Hook) *Options {
	if start != 0 && hook != nil {
		told := hook
		hook = func(at ID, value uint64) {
			if at < Beaten || at == AccountTaken { // the value is a position
				value -= start
			}
			told(at, value)
		}
	}
	watch(options, start, hook)
	return options
}

// Provide is called by package ipc, which alone can set what is not for users.
func Provide(set func(options any, start uint64, hook Hook)) { watch = set }

var watch func(options any, start uint64, hook Hook)
