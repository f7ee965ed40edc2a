// A client of tandem's protocol, version 1, in C. It follows docs/PROTOCOL.md and shares no code with package ipc, so
// it shows what a client in another language has to do. ipc/cclient_test.go runs it.
//
//     gcc -std=c11 -O2 -Wall -Wextra -pthread client.c -o client
//     client PATH [COUNT]
//
// It attaches to the server at PATH, sends back COUNT messages (0: until the server ends), and closes. It does not
// judge whether its server is hung, and does not refuse the reserved endings of paths.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 // Linux 6.5
#endif
#define FUTEX2_U32 2       // FUTEX2_SIZE_U32 of newer headers
#define FUTEX2_U32_PRIVATE (2 | 128)

// The control page: offsets of its words.
enum { MAGIC = 0, VERSION = 8, FINGERPRINT = 0x10, GENERATION = 0x18, RING_SIZE = 0x20, WRITE_POS = 0x80,
       READ_POS = 0x100, DELIVERED_POS = 0x180, DATA_WAIT = 0x200, SPACE_WAIT = 0x280, BEAT = 0x300,
       ATTACHMENT = 0x380, GOODBYE = 0x400 };
enum { ROLE_SERVER = 1, ROLE_CLIENT = 2 };
#define SEGMENT_MAGIC 0x00006d65646e6174u
#define PACKET_MAGIC 0x0031746d646e6174u
#define LAYOUT 0xccef49360a93c1d4u // the FNV-1a fingerprint of the table
#define PROTOCOL 1
#define RING_MAX ((uint64_t)1 << 30)

enum { HELLO = 1, GRANT, REFUSE, READY };
enum { WHY_VERSION = 1, WHY_USER, WHY_RUNNING, WHY_CLOSING, WHY_CORRUPT, WHY_FAILED, WHY_COPY };

struct packet { // the host is little endian, so these are the bytes of the page
	uint64_t magic;
	uint32_t type, version;
	uint64_t fingerprint;
	uint32_t page, reason; // reason: the heartbeat interval in us, in a hello and a grant
	uint64_t pid, generation, attachment, toServer, toClient;
};
_Static_assert(sizeof(struct packet) == 72, "a packet has 72 bytes");
#define PREFIX 28 // what is the same in every version

#define BEAT_MS 100       // own heartbeat, and the bound of each sleep (W5)
#define HANDSHAKE_MS 5000
#define DIAL_MS 15000     // how long this program waits for a server; the page leaves it to the caller
#define SPINS 2000

enum end { ALIVE, CLOSED, DROPPED, LIVES_ON, DIED }; // the end of the server, as it was proven

static struct packet granted;
static int sock = -1, tokenFd = -1, pidfd = -1, stopFd = -1;
static uint8_t *serverSeg, *clientSeg;
static uint32_t interrupts;                    // this process's interrupt counter (W3)
static int end;                                // an enum end; set before interrupts grows
static int sleepers;                           // waits that only their position can wake: no futex_waitv
static bool noWaitv;
static pthread_t watcher;
static bool attached;

// One ring as this client uses it: as the producer of toServer or the consumer of toClient.
struct ring {
	const char *name;
	bool producer;
	uint8_t *bytes;          // mapped twice, so that each record is contiguous
	uint64_t size;
	uint8_t *ownPos, *peerPos, *ownWait, *peerWait;
	uint64_t own, peer;      // own position as stored; the peer's as last believed
};
static struct ring toServer, toClient;

// ---- Words ----

static uint64_t load(const uint8_t *word) { return __atomic_load_n((const uint64_t *)word, __ATOMIC_SEQ_CST); }

// Swap stores a word that the peer may be waiting for or looking at. Its release half keeps what it covers
// before it; the fence keeps the load of the other side's word behind it (W4), on arm64 too.
static void swap(uint8_t *word, uint64_t value)
{
	__atomic_exchange_n((uint64_t *)word, value, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static int64_t milliseconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void nap(int ms) { nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL); }

// ---- Errors and the end of the stay ----

// Leave closes in the order of C1: goodbye; unmap; unlock the token, for all copies; close; the socket last.
static void leave(void)
{
	if (!attached) return;
	attached = false;
	if (eventfd_write(stopFd, 1) == 0) pthread_join(watcher, NULL); // it stores beats
	swap(clientSeg + GOODBYE, granted.attachment);
	munmap(serverSeg, granted.page + 2 * granted.toClient);
	munmap(clientSeg, granted.page + 2 * granted.toServer);
	fcntl(tokenFd, F_OFD_SETLK, &(struct flock){.l_type = F_UNLCK, .l_whence = SEEK_SET});
	close(tokenFd);
	close(sock);
}

__attribute__((format(printf, 1, 2), noreturn)) static void fail(const char *format, ...)
{
	va_list list;
	va_start(list, format);
	fputs("client: ", stderr);
	vfprintf(stderr, format, list);
	fputc('\n', stderr);
	leave();
	exit(1);
}

// ---- Waiting ----

static void futexWake(void *word, int private) { syscall(SYS_futex, word, FUTEX_WAKE | private, INT_MAX, NULL, NULL, 0); }

// SleepOn sleeps while the low half of the peer's position is what was decided on, and nobody has interrupted;
// at most one heartbeat, so that a committer frozen between its store and its wake costs no more (W5).
static void sleepOn(uint8_t *position, uint64_t seen, uint32_t counter)
{
	struct timespec until;
	if (!noWaitv) {
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += BEAT_MS * 1000000L;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		struct futex_waitv words[2] = {{.val = (uint32_t)seen, .uaddr = (uintptr_t)position, .flags = FUTEX2_U32},
			{.val = counter, .uaddr = (uintptr_t)&interrupts, .flags = FUTEX2_U32_PRIVATE}};
		if (syscall(SYS_futex_waitv, words, 2, 0, &until, CLOCK_MONOTONIC) >= 0) return;
		if (errno == EAGAIN || errno == EINTR || errno == ETIMEDOUT) return;
		if (errno != ENOSYS && errno != EPERM) fail("futex_waitv: %s", strerror(errno));
		noWaitv = true; // an old kernel, or a sandbox
	}
	// Who interrupts sees the sleeper, and wakes until it has gone; or the sleeper sees the interrupt.
	__atomic_add_fetch(&sleepers, 1, __ATOMIC_SEQ_CST);
	until = (struct timespec){0, BEAT_MS * 1000000L};
	if (__atomic_load_n(&interrupts, __ATOMIC_SEQ_CST) == counter)
		syscall(SYS_futex, position, FUTEX_WAIT, (uint32_t)seen, &until, NULL, 0);
	__atomic_sub_fetch(&sleepers, 1, __ATOMIC_SEQ_CST);
}

// Interrupt tells the waiters of a flag that was set before (W3).
static void interrupt(void)
{
	__atomic_add_fetch(&interrupts, 1, __ATOMIC_SEQ_CST);
	futexWake(&interrupts, FUTEX_PRIVATE_FLAG);
	for (; __atomic_load_n(&sleepers, __ATOMIC_SEQ_CST) > 0; nap(1)) {
		futexWake(toServer.peerPos, 0);
		futexWake(toClient.peerPos, 0);
	}
}

// Believe loads the peer's position, once, and checks it (I1). All differences are modulo 2^64.
static void believe(struct ring *r)
{
	uint64_t now = load(r->peerPos);
	uint64_t used = r->producer ? r->own - now : now - r->own;
	if (now % 8 != 0 || used > r->size || now - r->peer > r->size) // the last: it has gone back
		fail("the server is corrupt: I1: ring %s: own position %" PRIu64 ", the server's %" PRIu64 " after %" PRIu64,
		     r->name, r->own, now, r->peer);
	r->peer = now;
}

// WaitUntil waits until the peer's position has reached the target (W2), and says if it has. A producer gets
// false as soon as the server has ended; a consumer only behind the last committed record.
static bool waitUntil(struct ring *r, uint64_t target)
{
	for (;;) {
		uint32_t counter = __atomic_load_n(&interrupts, __ATOMIC_SEQ_CST);
		int ended = __atomic_load_n(&end, __ATOMIC_SEQ_CST);
		if (ended != ALIVE && r->producer) return false;
		believe(r); // behind the flag: what is seen now is all that a dead server has committed (W6)
		for (int i = 0; i < SPINS && (int64_t)(r->peer - target) < 0 && ended == ALIVE; i++) {
			believe(r);
		}
		if ((int64_t)(r->peer - target) >= 0) return true;
		swap(r->ownWait, ended != ALIVE ? 0 : target);
		if (ended != ALIVE) return false;
		sleepOn(r->peerPos, r->peer, counter);
	}
}

// MoveTo stores the own position, and wakes the server if that crosses what it waits for (W1).
static void moveTo(struct ring *r, uint64_t position)
{
	uint64_t old = r->own;
	swap(r->ownPos, position);
	r->own = position;
	if (load(r->peerWait) - old - 1 < position - old) futexWake(r->ownPos, 0);
}

// ---- Messages ----

struct message {
	uint32_t kind, size;
	const uint8_t *data;
	uint64_t end;
	bool redelivered;
};
static uint64_t deliveredPos, deliveredBefore; // own word; as a predecessor has left it

static uint64_t recordSize(uint64_t size) { return 8 + (size + 7) / 8 * 8; }

// Receive takes the next message as a view; false at the end of the server.
static bool receive(struct message *m)
{
	struct ring *r = &toClient;
	if (r->peer == r->own && !waitUntil(r, r->own + 1)) return false;
	uint8_t *record = r->bytes + (r->own & (r->size - 1));
	uint64_t header = __atomic_load_n((uint64_t *)record, __ATOMIC_RELAXED); // once: the peer can change it
	*m = (struct message){.kind = header >> 32, .size = (uint32_t)header, .data = record + 8};
	if (recordSize(m->size) > r->peer - r->own)
		fail("the server is corrupt: I3: a record of %" PRIu64 " bytes at %" PRIu64 " ends beyond writePos %" PRIu64,
		     recordSize(m->size), r->own, r->peer);
	m->end = r->own + recordSize(m->size);
	m->redelivered = (int64_t)(r->own - deliveredBefore) < 0;
	// Handed out from here on. The word never goes back: a predecessor may have been handed more than this one.
	if ((int64_t)(m->end - deliveredPos) > 0) {
		deliveredPos = m->end;
		__atomic_store_n((uint64_t *)(clientSeg + DELIVERED_POS), deliveredPos, __ATOMIC_RELEASE);
		__atomic_signal_fence(__ATOMIC_SEQ_CST); // the compiler must not hand out before it marks
	}
	return true;
}

// SendMessage commits one message; false if the server has ended.
static bool sendMessage(uint32_t kind, const uint8_t *data, uint32_t size)
{
	struct ring *r = &toServer;
	uint64_t n = recordSize(size);
	if (n > r->size) fail("a message of %u bytes does not fit a ring to the server of %" PRIu64, size, r->size);
	if (!waitUntil(r, r->own + n - r->size)) return false;
	uint8_t *record = r->bytes + (r->own & (r->size - 1));
	memcpy(record + 8, data, size);
	*(uint64_t *)record = (uint64_t)kind << 32 | size;
	moveTo(r, r->own + n);
	return true;
}

// ---- The watch over the server ----

// ProveEnd says how the server has ended, whose socket or process has. It may take HANDSHAKE_MS.
static enum end proveEnd(void)
{
	struct packet last;
	ssize_t n = recv(sock, &last, sizeof last, MSG_DONTWAIT);
	if (n < 0 && errno == ECONNRESET) n = recv(sock, &last, sizeof last, MSG_DONTWAIT); // one may stand behind a reset
	if (n == sizeof last && last.magic == PACKET_MAGIC && last.type == REFUSE) return DROPPED;
	for (int64_t limit = milliseconds() + HANDSHAKE_MS; ; nap(1)) {
		if (load(serverSeg + GOODBYE) == granted.generation) return CLOSED;
		struct pollfd exited = {.fd = pidfd, .events = POLLIN}; // a negative descriptor is passed over
		if (poll(&exited, 1, 0) == 1) return DIED;
		struct flock serverByte = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1, .l_len = 1};
		if (fcntl(tokenFd, F_OFD_GETLK, &serverByte) == 0 && serverByte.l_type == F_UNLCK) return DIED;
		if (milliseconds() > limit) return LIVES_ON;
	}
}

// Watch beats, and waits for the end of the server or of this client's stay.
static void *watch(void *unused)
{
	uint64_t beat = load(clientSeg + BEAT); // it goes on from what the predecessor has left
	for (;;) {
		// Not POLLIN: a packet in the queue is no end.
		struct pollfd fds[3] = {{.fd = sock, .events = POLLRDHUP}, {.fd = pidfd, .events = POLLIN}, {.fd = stopFd, .events = POLLIN}};
		poll(fds, 3, BEAT_MS);
		if (fds[2].revents) return unused;
		if (fds[0].revents || fds[1].revents) break;
		swap(clientSeg + BEAT, ++beat);
	}
	__atomic_store_n(&end, proveEnd(), __ATOMIC_SEQ_CST);
	interrupt();
	return unused;
}

// ---- Attaching ----

// MapSegment checks a segment against the handshake (I0) and maps it, its ring twice.
static uint8_t *mapSegment(int fd, const char *name, uint64_t role, uint64_t ringSize, int seals, int protection)
{
	struct stat st;
	if (ringSize < granted.page || ringSize > RING_MAX || (ringSize & (ringSize - 1)) != 0)
		fail("I0: the %s segment's ring would have %" PRIu64 " bytes", name, ringSize);
	int have = fcntl(fd, F_GET_SEALS);
	if (have < 0 || (have & seals) != seals) fail("I0: the %s segment's seals are %#x, not %#x", name, have, seals);
	if (fstat(fd, &st) != 0 || (uint64_t)st.st_size != granted.page + ringSize)
		fail("I0: the %s segment has %lld bytes, not a page and %" PRIu64, name, (long long)st.st_size, ringSize);
	uint64_t all = granted.page + 2 * ringSize;
	uint8_t *at = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); // room for both copies
	if (at == MAP_FAILED ||
	    mmap(at, granted.page + ringSize, protection, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
	    mmap(at + granted.page + ringSize, ringSize, protection, MAP_SHARED | MAP_FIXED, fd, granted.page) == MAP_FAILED)
		fail("mapping the %s segment: %s", name, strerror(errno));
	madvise(at, all, MADV_DONTFORK); // C10
	close(fd);
	const struct { const char *name; int at; uint64_t want; } words[] = {
		{"magic", MAGIC, SEGMENT_MAGIC}, {"version", VERSION, role << 32 | PROTOCOL}, {"fingerprint", FINGERPRINT, LAYOUT},
		{"generation", GENERATION, granted.generation}, {"ring size", RING_SIZE, ringSize}};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (load(at + words[i].at) != words[i].want)
			fail("I0: the %s segment's %s is not %#" PRIx64, name, words[i].name, words[i].want);
	return at;
}

// CheckPositions loads the account of both rings and checks it (I1, I2). The own words come first, and the server's
// in the order in which it moves them, because it may still receive what the predecessor has left.
static void checkPositions(void)
{
	uint64_t cw = load(clientSeg + WRITE_POS), cr = load(clientSeg + READ_POS), cd = load(clientSeg + DELIVERED_POS);
	uint64_t sw = load(serverSeg + WRITE_POS), sr = load(serverSeg + READ_POS), sd = load(serverSeg + DELIVERED_POS);
	if ((cw | cr | sw | sr) % 8 != 0 || cw - sr > granted.toServer || sw - cr > granted.toClient)
		fail("I1: positions: client %" PRIu64 " %" PRIu64 ", server %" PRIu64 " %" PRIu64, cw, cr, sw, sr);
	if ((cd | sd) % 8 != 0 || sd - sr > cw - sr || cd - cr > sw - cr)
		fail("I2: delivered: client %" PRIu64 ", server %" PRIu64, cd, sd);
	deliveredPos = deliveredBefore = cd;
	toServer = (struct ring){"toServer", true, clientSeg + granted.page, granted.toServer, clientSeg + WRITE_POS,
		serverSeg + READ_POS, clientSeg + SPACE_WAIT, serverSeg + DATA_WAIT, cw, sr};
	toClient = (struct ring){"toClient", false, serverSeg + granted.page, granted.toClient, clientSeg + READ_POS,
		serverSeg + WRITE_POS, clientSeg + DATA_WAIT, serverSeg + SPACE_WAIT, cr, sw};
}

// TakeGrant receives the descriptors of a grant that was looked at already, and refuses it as a whole if one is
// missing, cut off or no regular file (C8).
static void takeGrant(int fds[3])
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(3 * sizeof(int))];
	struct iovec iov = {&granted, sizeof granted};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	if (recvmsg(sock, &h, MSG_CMSG_CLOEXEC) != sizeof granted) fail("the grant has gone from the queue");
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);
	if ((h.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) || !c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
	    c->cmsg_len != CMSG_LEN(3 * sizeof(int)))
		fail("the grant does not carry its three descriptors");
	memcpy(fds, CMSG_DATA(c), 3 * sizeof(int));
	struct stat st;
	for (int i = 0; i < 3; i++)
		if (fstat(fds[i], &st) != 0 || !S_ISREG(st.st_mode)) fail("descriptor %d of the grant is no regular file", i);
}

// Peek looks at the next packet without taking it or its descriptors. It returns false at the end of the connection.
static bool peek(struct packet *p, ssize_t *length, bool *descriptors)
{
	struct iovec iov = {p, sizeof *p};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
	memset(p, 0, sizeof *p);
	*length = recvmsg(sock, &h, MSG_PEEK | MSG_TRUNC);
	if (*length < 0 && errno == ECONNRESET) *length = recvmsg(sock, &h, MSG_PEEK | MSG_TRUNC);
	if (*length < 0 && errno == EAGAIN) fail("the server does not answer");
	*descriptors = h.msg_flags & MSG_CTRUNC;
	return *length > 0;
}

// DialOnce tries to attach. It returns NULL, or why to try again; what cannot be mended fails.
static const char *dialOnce(const char *path, int64_t limit)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	struct stat st;
	if ((size_t)snprintf(to.sun_path, sizeof to.sun_path, "%s", path) >= sizeof to.sun_path) fail("%s: too long", path);
	if (stat(path, &st) == 0 && !S_ISSOCK(st.st_mode)) fail("%s is not a socket", path); // connect says ECONNREFUSED
	sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (sock < 0) fail("socket: %s", strerror(errno));
	int64_t rest = limit > milliseconds() ? limit - milliseconds() : 1;
	struct timeval patience = {rest / 1000, rest % 1000 * 1000 + 1}; // 0 would be without end
	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience); // bounds connect: EAGAIN
	if (connect(sock, (struct sockaddr *)&to, sizeof to) != 0) {
		if (errno == ENOENT) return "nothing is there";
		if (errno == ECONNREFUSED || errno == EAGAIN) return "nobody listens";
		if (errno == EACCES && stat(path, &st) == 0 && (st.st_mode & S_ISVTX)) return "the server is not ready";
		fail("connecting to %s: %s", path, errno == EPROTOTYPE ? "a socket of something else" : strerror(errno));
	}
	struct ucred who;
	socklen_t size = sizeof who;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0) fail("SO_PEERCRED: %s", strerror(errno));
	if (who.uid != geteuid() && who.uid != 0) fail("the server on %s is user %u's: nothing was sent to it", path, who.uid);
	size = sizeof pidfd;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) != 0) pidfd = -1; // the server byte proves it too

	struct packet mine = {.magic = PACKET_MAGIC, .type = HELLO, .version = PROTOCOL, .fingerprint = LAYOUT,
		.page = (uint32_t)sysconf(_SC_PAGESIZE), .reason = BEAT_MS * 1000};
	send(sock, &mine, sizeof mine, MSG_NOSIGNAL); // if that fails, the answer or the end is in the queue
	struct packet p;
	ssize_t length;
	bool descriptors;
	if (!peek(&p, &length, &descriptors)) return "the server ended the connection";
	if (length < PREFIX || p.magic != PACKET_MAGIC || (p.type != GRANT && p.type != REFUSE) || descriptors != (p.type == GRANT))
		fail("what listens on %s does not speak this protocol", path);
	if (p.version != PROTOCOL || (p.type == REFUSE && p.reason == WHY_VERSION) ||
	    (p.type == GRANT && (p.fingerprint != LAYOUT || p.page != mine.page)))
		fail("the server has version %u, layout %#" PRIx64 ", pages of %u bytes; this client %u, %#" PRIx64 ", %u",
		     p.version, p.fingerprint, p.page, PROTOCOL, (uint64_t)LAYOUT, mine.page);
	if (length != sizeof p) fail("a packet of %zd bytes from %s", length, path);
	if (p.type == REFUSE) switch (p.reason) {
	case WHY_USER: fail("the server on %s refuses this user", path);
	case WHY_RUNNING: fail("another client is attached to %s: process %" PRIu64, path, p.pid);
	case WHY_COPY: fail("a client of %s has ended, but process %" PRIu64 " has a copy of its token", path, p.pid);
	case WHY_CLOSING: return "the server is closing";
	case WHY_FAILED: return "the server can admit nobody now";
	default: fail("the server on %s refuses with reason %u", path, p.reason);
	}
	int fds[3];
	takeGrant(fds);
	tokenFd = fds[2];
	int common = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	serverSeg = mapSegment(fds[0], "server", ROLE_SERVER, granted.toClient, common | F_SEAL_FUTURE_WRITE, PROT_READ);
	clientSeg = mapSegment(fds[1], "client", ROLE_CLIENT, granted.toServer, common, PROT_READ | PROT_WRITE);
	checkPositions();
	swap(clientSeg + DATA_WAIT, 0); // the predecessor's
	swap(clientSeg + SPACE_WAIT, 0);
	swap(clientSeg + ATTACHMENT, granted.attachment);
	mine.type = READY, mine.reason = 0;
	send(sock, &mine, sizeof mine, MSG_NOSIGNAL); // a server that has ended is noticed by the watch
	return NULL;
}

static void dial(const char *path)
{
	const char *why;
	for (int64_t limit = milliseconds() + DIAL_MS; (why = dialOnce(path, limit)) != NULL; nap(5)) {
		close(sock);
		close(pidfd);
		if (milliseconds() > limit) fail("no server on %s: %s", path, why);
	}
	stopFd = eventfd(0, EFD_CLOEXEC);
	if (stopFd < 0 || pthread_create(&watcher, NULL, watch, NULL) != 0) fail("starting the watch failed");
	attached = true;
}

int main(int argc, char **argv)
{
	if (argc < 2 || argc > 3) fail("usage: client PATH [COUNT]");
	uint64_t count = argc == 3 ? strtoull(argv[2], NULL, 10) : 0, echoed = 0, unanswered = 0, again = 0;
	dial(argv[1]);
	printf("attached: number %" PRIu64 " of generation %" PRIu64 ", process %d\n", granted.attachment, granted.generation, getpid());
	fflush(stdout);
	struct message m;
	bool ended = false;
	while ((count == 0 || echoed < count) && !(ended = !receive(&m))) {
		if (m.redelivered) {
			again++;
			fprintf(stderr, "redelivered: kind %u, %u bytes\n", m.kind, m.size);
		}
		if (sendMessage(m.kind, m.data, m.size)) echoed++;
		else unanswered++;
		moveTo(&toClient, m.end); // released only behind the answer: a death before this brings it again, marked
	}
	printf("echoed %" PRIu64 ", redelivered %" PRIu64 ", unanswered %" PRIu64 ", the server has left %" PRIu64 " bytes unreleased\n",
	       echoed, again, unanswered, toServer.own - load(serverSeg + READ_POS));
	if (ended) {
		static const char *ends[] = {[CLOSED] = "closed", [DROPPED] = "closed: it has dropped this client, whose memory it calls corrupt",
			[LIVES_ON] = "closed: it has ended the connection, and lives", [DIED] = "died"};
		printf("the server has %s\n", ends[end]);
	}
	int status = ended && (end != CLOSED || count != 0);
	leave();
	return status;
}
