import io.aeron.Aeron;
import io.aeron.ExclusivePublication;
import io.aeron.FragmentAssembler;
import io.aeron.Publication;
import io.aeron.Subscription;
import io.aeron.logbuffer.BufferClaim;
import io.aeron.logbuffer.FragmentHandler;
import org.agrona.DirectBuffer;
import org.agrona.MutableDirectBuffer;
import org.agrona.concurrent.UnsafeBuffer;

/** Sends and receives numbered messages: words of 64 bits that follow from the first. */
final class Endpoint {
    static final long STEP = 0x9E3779B97F4A7C15L;

    private final ExclusivePublication publication;
    private final Subscription subscription;
    private final BufferClaim claim = new BufferClaim();
    private final FragmentHandler handler;
    private final int size;
    private final boolean check;
    private final boolean view;
    /** The caller's own memory, from and to which a message is copied. */
    private final UnsafeBuffer outgoing;
    private final UnsafeBuffer incoming;
    private final boolean copiesOut;

    /** The number that comes next. */
    long received;
    long wrong;
    long lost;
    /** What steered the run last; 0: nothing since it was set to 0. Such a word has its top bit set. */
    long control;
    long touched;

    Endpoint(final Aeron aeron, final Driver.Args args, final int sendStream, final int receiveStream) {
        subscription = aeron.addSubscription("aeron:ipc", receiveStream);
        publication = aeron.addExclusivePublication("aeron:ipc", sendStream);
        size = args.size;
        check = args.check;
        view = args.form.equals("view");
        outgoing = new UnsafeBuffer(java.nio.ByteBuffer.allocateDirect(size));
        incoming = new UnsafeBuffer(java.nio.ByteBuffer.allocateDirect(size));
        final boolean fragmented = size > publication.maxPayloadLength();
        copiesOut = !view && !fragmented; // the assembler has copied already
        final FragmentHandler take = (buffer, offset, length, header) -> take(buffer, offset, length);
        handler = fragmented ? new FragmentAssembler(take, size) : take;
    }

    boolean connected() {
        return publication.isConnected() && subscription.isConnected();
    }

    /** Sends the message that starts with this word; false: no room now. */
    boolean trySend(final long first) {
        final long position;
        if (view) {
            position = publication.tryClaim(size, claim);
            if (position > 0) {
                fill(claim.buffer(), claim.offset(), first);
                claim.commit();
                return true;
            }
        } else {
            fill(outgoing, 0, first);
            position = publication.offer(outgoing, 0, size);
            if (position > 0) {
                return true;
            }
        }
        if (position == Publication.BACK_PRESSURED || position == Publication.ADMIN_ACTION) {
            return false;
        }
        throw Driver.die("publication: " + Publication.errorString(position));
    }

    /** Takes at most so many fragments; the number of those that there were. */
    int poll(final int limit) {
        return subscription.poll(handler, limit);
    }

    private void fill(final MutableDirectBuffer buffer, final int offset, final long first) {
        final int last = size - 8;
        if (check) {
            for (int i = 8; i < last; i += 8) {
                buffer.putLong(offset + i, first + (i >> 3) * STEP);
            }
        }
        buffer.putLong(offset + last, first + (last >> 3) * STEP);
        buffer.putLong(offset, first);
    }

    private void take(final DirectBuffer buffer, final int offset, final int length) {
        if (copiesOut) {
            incoming.putBytes(0, buffer, offset, length);
            judge(incoming, 0, length);
        } else {
            judge(buffer, offset, length);
        }
    }

    private void judge(final DirectBuffer buffer, final int offset, final int length) {
        final long first = buffer.getLong(offset);
        if (first != received && !expected(first)) {
            return;
        }
        if (check) {
            boolean right = length == size;
            for (int i = 8; i < size; i += 8) {
                right &= buffer.getLong(offset + i) == first + (i >> 3) * STEP;
            }
            wrong += right ? 0 : 1;
        } else {
            final int last = size - 8;
            if (buffer.getLong(offset + last) != first + (last >> 3) * STEP) {
                wrong++;
            }
            if (view) {
                long sum = 0;
                for (int i = 64; i < last; i += 64) {
                    sum += buffer.getLong(offset + i);
                }
                touched += sum;
            }
        }
        received++;
    }

    /** Says of a message with another number than the next whether its words are to be judged. */
    private boolean expected(final long first) {
        if (first < 0) {
            control = first;
            onControl.run();
            return false;
        }
        wrong++;
        if (first < received) {
            return false; // repeated
        }
        lost += first - received;
        received = first;
        return true;
    }

    /** Runs when a word that steers the run has come. */
    Runnable onControl = () -> { };
}
