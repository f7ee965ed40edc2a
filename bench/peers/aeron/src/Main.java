import io.aeron.Aeron;
import io.aeron.driver.MediaDriver;
import io.aeron.driver.ThreadingMode;
import io.aeron.protocol.DataHeaderFlyweight;
import java.io.File;
import org.agrona.IoUtil;
import org.agrona.concurrent.BackoffIdleStrategy;
import org.agrona.concurrent.BusySpinIdleStrategy;
import org.agrona.concurrent.IdleStrategy;
import org.agrona.concurrent.SleepingIdleStrategy;

/** The driver of Aeron IPC. The media driver is part of the server's process. */
public final class Main {
    private static final int TERM_LENGTH = 64 * 1024 * 1024;
    private static final int MTU_LENGTH = 65504;
    private static final int MAX_CLAIM = MTU_LENGTH - DataHeaderFlyweight.HEADER_LENGTH;
    private static final int TO_SERVER = 1001;
    private static final int TO_CLIENT = 1002;

    private Main() {
    }

    public static void main(final String[] arguments) {
        final Driver.Args args = new Driver.Args(arguments);
        if (args.form.equals("batch")) {
            Driver.unsupported("a publication sends one message at a time; a poll takes many in every form");
        }
        if (args.form.equals("view") && args.size > MAX_CLAIM) {
            Driver.unsupported("tryClaim gives at most " + MAX_CLAIM + " bytes");
        }
        final File directory = new File(args.dir, "aeron");
        Driver.Watch.standardInput(() -> IoUtil.delete(directory, true));
        try {
            run(args, directory.getPath());
        } catch (final RuntimeException e) {
            throw Driver.die(e.toString());
        }
    }

    private static void run(final Driver.Args args, final String directory) {
        final MediaDriver media = args.server ? launch(directory) : null;
        final Aeron aeron = Aeron.connect(new Aeron.Context()
            .aeronDirectoryName(directory)
            .preTouchMappedMemory(true)
            .errorHandler(Works::failed));
        final Endpoint endpoint = new Endpoint(
            aeron, args, args.server ? TO_CLIENT : TO_SERVER, args.server ? TO_SERVER : TO_CLIENT);
        if (args.server) {
            System.out.println("ready");
            System.out.flush();
        }
        final Driver.Outcome outcome = new Works(args, endpoint, idle(args)).run();
        if (media != null) {
            aeron.close();
            media.close();
        }
        outcome.print("aeron " + version() + ", java " + Runtime.version().feature(), settings(args));
        Runtime.getRuntime().halt(0); // the server may be gone: a client that closes would wait for it
    }

    private static MediaDriver launch(final String directory) {
        return MediaDriver.launch(new MediaDriver.Context()
            .aeronDirectoryName(directory)
            .threadingMode(ThreadingMode.SHARED)
            .sharedIdleStrategy(new BackoffIdleStrategy())
            .termBufferSparseFile(false)
            .ipcTermBufferLength(TERM_LENGTH)
            .ipcMtuLength(MTU_LENGTH)
            .spiesSimulateConnection(false)
            .dirDeleteOnStart(true)
            .dirDeleteOnShutdown(true)
            .errorHandler(e -> Driver.die(e.toString())));
    }

    private static IdleStrategy idle(final Driver.Args args) {
        return switch (args.wait) {
            case "spin" -> new BusySpinIdleStrategy();
            case "block" -> new SleepingIdleStrategy(1000);
            default -> new BackoffIdleStrategy();
        };
    }

    private static String version() {
        return io.aeron.AeronVersion.VERSION;
    }

    private static String settings(final Driver.Args args) {
        final String waits = switch (args.wait) {
            case "spin" -> "BusySpinIdleStrategy";
            case "block" -> "SleepingIdleStrategy of 1 us, as nothing wakes a subscriber";
            default -> "BackoffIdleStrategy";
        };
        return "exclusive publication over aeron:ipc, terms of 64 MiB touched before, MTU " + MTU_LENGTH +
            ", media driver in the server's process with one shared thread that backs off, waits by " + waits +
            ", warmed up for " + args.warmMillis + " ms";
    }
}
