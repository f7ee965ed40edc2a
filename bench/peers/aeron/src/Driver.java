import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import org.HdrHistogram.Histogram;

/** What a driver needs to follow bench/DRIVERS.md: arguments, time, histogram, JSON. */
final class Driver {
    private Driver() {
    }

    /** Says what went wrong in one line and ends the process. */
    static RuntimeException die(final String what) {
        System.err.println(what.replace('\n', ' '));
        Runtime.getRuntime().halt(1);
        throw new IllegalStateException();
    }

    static void unsupported(final String why) {
        System.out.println("{\"unsupported\": \"" + why + "\"}");
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    static final class Args {
        boolean server;
        String dir = "";
        String work = "";
        String form = "copy";
        String wait = "default";
        int size = 8;
        int inflight = 1;
        long warmMillis;
        long timeMillis;
        long pauseNanos;
        boolean check;

        Args(final String[] all) {
            if (all.length == 0 || !(all[0].equals("server") || all[0].equals("client"))) {
                throw die("usage: DRIVER server|client -name NAME -dir DIR -work WORK -form FORM -size BYTES ...");
            }
            server = all[0].equals("server");
            for (int i = 1; i + 1 < all.length; i += 2) {
                final String value = all[i + 1];
                switch (all[i]) {
                    case "-name" -> { }
                    case "-dir" -> dir = value;
                    case "-work" -> work = value;
                    case "-form" -> form = value;
                    case "-wait" -> wait = value;
                    case "-size" -> size = Integer.parseInt(value);
                    case "-inflight" -> inflight = Integer.parseInt(value);
                    case "-warm" -> warmMillis = Long.parseLong(value);
                    case "-time" -> timeMillis = Long.parseLong(value);
                    case "-pause" -> pauseNanos = Long.parseLong(value) * 1000;
                    case "-check" -> check = !value.equals("0");
                    default -> throw die("unknown argument " + all[i]);
                }
            }
            if (dir.isEmpty()) {
                throw die("-dir is missing");
            }
            if (size < 8 || size % 8 != 0) {
                throw die("the size is a multiple of 8");
            }
        }
    }

    /** Whether the time of the part that runs is over. A thread of its own says so: the measured loops have no clock. */
    static final class Watch {
        static volatile boolean expired;

        private Watch() {
        }

        static void arm(final long millis) {
            expired = false;
            daemon("timer", () -> {
                try {
                    Thread.sleep(millis);
                } catch (final InterruptedException e) {
                    throw die("interrupted");
                }
                expired = true;
            });
        }

        /** Ends the process, after cleanup, when standard input is closed. */
        static void standardInput(final Runnable cleanup) {
            daemon("standard input", () -> {
                try {
                    while (System.in.read() >= 0) {
                        continue;
                    }
                } catch (final IOException e) {
                    System.err.println(e.getMessage());
                }
                cleanup.run();
                throw die("standard input was closed");
            });
        }

        private static void daemon(final String name, final Runnable runnable) {
            final Thread thread = new Thread(runnable, name);
            thread.setDaemon(true);
            thread.start();
        }
    }

    /** What the threads of this process have used, from /proc: Java itself does not say it exactly. */
    record Usage(long cpuNanos, long switches) {
        static Usage take() {
            long nanos = 0;
            long switches = 0;
            try (DirectoryStream<Path> tasks = Files.newDirectoryStream(Path.of("/proc/self/task"))) {
                for (final Path task : tasks) {
                    nanos += Long.parseLong(Files.readString(task.resolve("schedstat")).split(" ")[0]);
                    switches += status(task.resolve("status"), "ctxt_switches:");
                }
            } catch (final IOException e) {
                // a thread that has just ended
            }
            return new Usage(nanos, switches);
        }

        static long rss() throws IOException {
            return status(Path.of("/proc/self/status"), "VmHWM:") * 1024;
        }

        private static long status(final Path path, final String key) throws IOException {
            long sum = 0;
            for (final String line : Files.readAllLines(path)) {
                if (line.contains(key)) {
                    sum += Long.parseLong(line.replaceAll("[^0-9]", ""));
                }
            }
            return sum;
        }
    }

    /** The line that a driver ends with. */
    static final class Outcome {
        long messages;
        long nanos;
        Histogram histogram;
        Usage start = new Usage(0, 0);
        Usage end = new Usage(0, 0);
        long wrong;
        long missing;

        void print(final String version, final String settings) {
            String encoded = "";
            if (histogram != null) {
                final ByteBuffer bytes = ByteBuffer.allocate(histogram.getNeededByteBufferCapacity());
                final int length = histogram.encodeIntoCompressedByteBuffer(bytes);
                bytes.flip().limit(length);
                encoded = "\"histogram\": \"" +
                    new String(Base64.getEncoder().encode(bytes).array(), java.nio.charset.StandardCharsets.US_ASCII) +
                    "\", ";
            }
            long rss = 0;
            try {
                rss = Usage.rss();
            } catch (final IOException e) {
                throw die(e.getMessage());
            }
            System.out.println("{\"messages\": " + messages + ", \"ns\": " + nanos + ", " + encoded +
                "\"cpu_ns\": " + (end.cpuNanos - start.cpuNanos) + ", \"switches\": " +
                (end.switches - start.switches) + ", \"rss\": " + rss + ", \"wrong\": " + wrong +
                ", \"missing\": " + missing + ", \"version\": \"" + version + "\", \"settings\": \"" + settings + "\"}");
            System.out.flush();
        }
    }
}
