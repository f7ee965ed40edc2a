import java.util.concurrent.locks.LockSupport;
import org.HdrHistogram.Histogram;
import org.agrona.concurrent.IdleStrategy;

/** The four works of bench/DRIVERS.md. */
final class Works {
    /** The client is there. */
    private static final long HELLO = 0xC000000000000000L;
    /** What follows is measured. */
    private static final long MEASURE = 0xA000000000000000L;
    /** What follows is not. */
    private static final long STOP = 0xB000000000000000L;
    /** The last message; the lower bits say how many were sent. */
    private static final long END = 0xE000000000000000L;
    private static final long KIND = 0xF000000000000000L;
    /** Both use one thread: so many are sent, so many received. */
    private static final int BURST = 32;

    private final Driver.Args args;
    private final Endpoint endpoint;
    private final IdleStrategy idle;
    private final Driver.Outcome outcome = new Driver.Outcome();

    private long sent;
    private boolean measuring;
    private boolean ended;
    private Driver.Usage sendStart;
    private Driver.Usage sendEnd;
    private boolean drained;
    private long measuredFrom;
    private long startNanos;

    Works(final Driver.Args args, final Endpoint endpoint, final IdleStrategy idle) {
        this.args = args;
        this.endpoint = endpoint;
        this.idle = idle;
    }

    /** The client has said that it is done: the media driver may go. */
    private static volatile boolean finished;

    static void failed(final Throwable cause) {
        if (!finished) {
            throw Driver.die(cause.toString());
        }
    }

    Driver.Outcome run() {
        if (args.server) {
            while (endpoint.control != HELLO || !endpoint.connected()) { // standard input ends this if nobody comes
                if (endpoint.poll(1) == 0) {
                    LockSupport.parkNanos(50_000);
                }
            }
        } else {
            while (!endpoint.connected()) {
                LockSupport.parkNanos(50_000);
            }
            put(HELLO);
        }
        endpoint.control = 0;
        final boolean asks = args.work.equals("roundtrip") || args.work.equals("requests");
        if (asks && args.server) {
            answer();
        } else if (asks) {
            ask();
        } else {
            stream();
        }
        // The server has the media driver: it stays until the client has said that it is done.
        finished = true;
        if (!args.server) {
            put(END);
        } else if (!asks) {
            awaitControl();
        }
        outcome.wrong = endpoint.wrong;
        return outcome;
    }

    private void put(final long first) {
        idle.reset();
        while (!endpoint.trySend(first)) {
            idle.idle();
        }
    }

    private void send() {
        put(sent);
        sent++;
    }

    /** Takes one message, numbered or not. */
    private void take() {
        final long before = endpoint.received;
        idle.reset();
        for (;;) {
            endpoint.poll(1);
            if (endpoint.received != before || endpoint.control != 0) {
                return;
            }
            idle.idle();
        }
    }

    private long awaitControl() {
        while (endpoint.control == 0) {
            take();
        }
        final long control = endpoint.control;
        endpoint.control = 0;
        return control;
    }

    private void answer() {
        for (;;) {
            take();
            final long control = endpoint.control;
            if (control == 0) {
                send();
                continue;
            }
            endpoint.control = 0;
            if (control == MEASURE) {
                outcome.start = Driver.Usage.take();
            } else if (control == STOP) {
                outcome.end = Driver.Usage.take();
            } else if (control == END) {
                return;
            }
            put(control);
        }
    }

    private void ask() {
        // The clocked loop is compiled too before anything is measured.
        final Histogram warm = new Histogram(1, 100_000_000_000L, 3);
        Driver.Watch.arm(args.warmMillis * 3 / 4);
        askUntilExpired(null);
        Driver.Watch.arm(args.warmMillis / 4);
        askUntilExpired(warm);
        tell(MEASURE);
        outcome.start = Driver.Usage.take();
        final long before = endpoint.received;
        Driver.Watch.arm(args.timeMillis);
        final long start = System.nanoTime();
        askUntilExpired(null);
        outcome.messages = reached - before;
        outcome.nanos = reachedAt - start;
        outcome.end = Driver.Usage.take();
        tell(STOP);
        outcome.histogram = new Histogram(1, 100_000_000_000L, 3);
        Driver.Watch.arm(args.timeMillis);
        askUntilExpired(outcome.histogram);
        outcome.missing = sent - endpoint.received;
    }

    private void tell(final long first) {
        put(first);
        awaitControl();
    }

    /** How many answers had come when the time was over, and when that was. */
    private long reached;
    private long reachedAt;

    /** Asks until the time is over, and then takes the answers that are still under way. */
    private void askUntilExpired(final Histogram histogram) {
        if (args.work.equals("requests")) {
            keepAsking(histogram);
            return;
        }
        if (histogram == null) {
            while (!Driver.Watch.expired) {
                send();
                take();
                pause();
            }
        } else {
            while (!Driver.Watch.expired) {
                final long start = System.nanoTime();
                send();
                take();
                record(histogram, System.nanoTime() - start);
                pause();
            }
        }
        reached = endpoint.received;
        reachedAt = System.nanoTime();
    }

    private void keepAsking(final Histogram histogram) {
        final long[] starts = new long[args.inflight];
        boolean over = false;
        for (;;) {
            if (!over && Driver.Watch.expired) {
                over = true;
                reached = endpoint.received;
                reachedAt = System.nanoTime();
            }
            while (!over && sent - endpoint.received < args.inflight) {
                if (histogram != null) {
                    starts[(int)(sent % args.inflight)] = System.nanoTime();
                }
                if (!endpoint.trySend(sent)) {
                    break;
                }
                sent++;
            }
            if (over && sent == endpoint.received) {
                return;
            }
            long number = endpoint.received;
            final int fragments = endpoint.poll(histogram == null ? BURST : 1);
            if (fragments == 0) {
                idle.idle();
                continue;
            }
            idle.reset();
            if (histogram != null && endpoint.received != number) {
                record(histogram, System.nanoTime() - starts[(int)(number % args.inflight)]);
            }
        }
    }

    private static void record(final Histogram histogram, final long nanos) {
        histogram.recordValue(Math.min(Math.max(nanos, 1), 100_000_000_000L));
    }

    private void pause() {
        if (args.pauseNanos == 0) {
            return;
        }
        if (!args.wait.equals("spin")) {
            LockSupport.parkNanos(args.pauseNanos);
            return;
        }
        final long end = System.nanoTime() + args.pauseNanos;
        while (System.nanoTime() < end) {
            Thread.onSpinWait();
        }
    }

    /** The works oneway and both: what is not done in a direction counts as ended. */
    private void stream() {
        final boolean both = args.work.equals("both");
        final boolean sends = both || args.server;
        drained = !both && args.server;
        ended = !sends;
        if (!drained) {
            endpoint.onControl = this::steered;
        }
        if (sends) {
            Driver.Watch.arm(args.warmMillis);
        }
        idle.reset();
        while (!ended || !drained) {
            int done = 0;
            for (int i = 0; i < BURST && !ended && streamStep(); i++) {
                done++;
            }
            if (!drained) {
                done += endpoint.poll(BURST);
            }
            if (done == 0) {
                idle.idle();
            } else {
                idle.reset();
            }
        }
        if (!both && args.server) {
            outcome.start = sendStart;
            outcome.end = sendEnd;
        }
    }

    /** Sends one message or what steers the run; false: no room now. */
    private boolean streamStep() {
        if (!Driver.Watch.expired) {
            if (!endpoint.trySend(sent)) {
                return false;
            }
            sent++;
            return true;
        }
        if (!endpoint.trySend(measuring ? END | sent : MEASURE)) {
            return false;
        }
        if (measuring) {
            ended = true;
            sendEnd = Driver.Usage.take();
        } else {
            measuring = true;
            sendStart = Driver.Usage.take();
            Driver.Watch.arm(args.timeMillis);
        }
        return true;
    }

    /** Takes note of what steers a stream. */
    private void steered() {
        final long control = endpoint.control;
        if (drained) {
            return; // the client is done
        }
        endpoint.control = 0;
        final long count = endpoint.received - endpoint.lost;
        if (control == MEASURE) {
            outcome.start = Driver.Usage.take();
            measuredFrom = count;
            startNanos = System.nanoTime();
            return;
        }
        outcome.nanos = System.nanoTime() - startNanos;
        outcome.messages = count - measuredFrom;
        outcome.missing = (control & ~KIND) - count;
        outcome.end = Driver.Usage.take();
        drained = true;
    }
}
