// What a driver in C++ needs to follow bench/DRIVERS.md: arguments, time, words, histogram, JSON.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace driver {

// die says what went wrong in one line and ends the process.
[[noreturn]] inline void die(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::_Exit(1);
}

// dieOf is die for a system call that failed.
[[noreturn]] inline void dieOf(const char* call) { die(std::string(call) + ": " + std::strerror(errno)); }

struct Args {
  std::string role, name, dir, work, form = "copy", wait = "default";
  size_t size = 8;
  uint64_t inflight = 1;
  int64_t warmNanos = 0, timeNanos = 0, pauseNanos = 0;
  bool check = false;

  bool server() const { return role == "server"; }
};

inline Args parse(int argc, char** argv) {
  Args a;
  if (argc < 2) die("usage: DRIVER server|client -name NAME -dir DIR -work WORK -form FORM -size BYTES ...");
  a.role = argv[1];
  for (int i = 2; i + 1 < argc; i += 2) {
    std::string key = argv[i], value = argv[i + 1];
    auto number = [&] { return std::strtoll(value.c_str(), nullptr, 10); };
    if (key == "-name") a.name = value;
    else if (key == "-dir") a.dir = value;
    else if (key == "-work") a.work = value;
    else if (key == "-form") a.form = value;
    else if (key == "-wait") a.wait = value;
    else if (key == "-size") a.size = number();
    else if (key == "-inflight") a.inflight = number();
    else if (key == "-warm") a.warmNanos = number() * 1000000;
    else if (key == "-time") a.timeNanos = number() * 1000000;
    else if (key == "-pause") a.pauseNanos = number() * 1000;
    else if (key == "-check") a.check = number() != 0;
    else die("unknown argument " + key);
  }
  if (a.role != "server" && a.role != "client") die("the role is server or client, not " + a.role);
  if (a.dir.empty()) die("-dir is missing");
  if (a.size < 8 || a.size % 8 != 0) die("the size is a multiple of 8");
  if (a.inflight == 0) die("-inflight is at least 1");
  return a;
}

// unsupported says that this contender cannot do what was asked for.
[[noreturn]] inline void unsupported(const std::string& why) {
  std::printf("{\"unsupported\": \"%s\"}\n", why.c_str());
  std::exit(0);
}

inline int64_t now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

inline void sleepNanos(int64_t n) {
  timespec t{n / 1000000000, n % 1000000000};
  nanosleep(&t, nullptr);
}

inline void relax() { __builtin_ia32_pause(); }

// Watch says when the time set by arm is over, and ends the process when standard input is closed. Both come as signals
// to the main thread: the measured loops need neither a clock nor a system call, and a thread that spins with real-time
// priority on its only processor cannot starve them.
class Watch {
 public:
  static inline std::atomic<bool> expired{false};

  // cleanup runs before the process ends because standard input was closed.
  explicit Watch(std::function<void()> cleanup) {
    cleanup_ = std::move(cleanup);
    on(SIGALRM, [](int) { expired.store(true, std::memory_order_relaxed); });
    on(SIGIO, [](int) { endIfClosed(); });
    fcntl(0, F_SETOWN, getpid());
    fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_ASYNC | O_NONBLOCK);
    endIfClosed();
  }

  static void arm(int64_t nanos) {
    expired.store(false, std::memory_order_relaxed);
    int64_t micros = std::max<int64_t>(nanos / 1000, 1);  // zero would disarm the timer
    itimerval at{{0, 0}, {micros / 1000000, micros % 1000000}};
    setitimer(ITIMER_REAL, &at, nullptr);
  }

 private:
  static void on(int number, void (*handler)(int)) {
    struct sigaction action {};
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    sigaction(number, &action, nullptr);
  }

  static void endIfClosed() {
    int saved = errno;
    char bytes[256];
    ssize_t n;
    while ((n = read(0, bytes, sizeof bytes)) > 0) {
    }
    if (n == 0) {
      cleanup_();
      die("standard input was closed");
    }
    errno = saved;
  }

  static inline std::function<void()> cleanup_;
};

struct Usage {
  int64_t cpuNanos = 0, switches = 0;

  static Usage take() {
    rusage u;
    getrusage(RUSAGE_SELF, &u);
    auto nanos = [](timeval t) { return t.tv_sec * 1000000000LL + t.tv_usec * 1000LL; };
    return {nanos(u.ru_utime) + nanos(u.ru_stime), u.ru_nvcsw + u.ru_nivcsw};
  }
};

// Histogram is an HDR histogram, 1 ns to 100 s with three significant digits, that can be written in the compressed
// format V2.
class Histogram {
 public:
  Histogram() : counts_((kBuckets + 1) * kHalf) {}

  void record(int64_t nanos) {
    uint64_t v = nanos < 1 ? 1 : nanos > kHighest ? kHighest : nanos;
    int bucket = 63 - std::countl_zero(v | (2 * kHalf - 1)) - 10;
    counts_[(uint64_t(bucket) << 10) + (v >> bucket)]++;
  }

  std::string encode() const {
    std::string payload;
    size_t used = counts_.size();
    while (used > 0 && counts_[used - 1] == 0) used--;
    for (size_t i = 0; i < used;) {
      if (counts_[i] != 0) {
        zigZag(payload, counts_[i++]);
        continue;
      }
      int64_t zeros = 0;
      for (; i < used && counts_[i] == 0; i++) zeros++;
      zigZag(payload, -zeros);
    }
    std::string body;
    bigEndian(body, 0x1c849313, 4);  // cookie of V2
    bigEndian(body, payload.size(), 4);
    bigEndian(body, 0, 4);  // normalizing index offset
    bigEndian(body, 3, 4);  // significant digits
    bigEndian(body, 1, 8);  // lowest value
    bigEndian(body, kHighest, 8);
    bigEndian(body, std::bit_cast<uint64_t>(1.0), 8);  // ratio of integers to doubles
    body += payload;

    uLongf packedSize = compressBound(body.size());
    std::string packed(packedSize, 0);
    compress2(reinterpret_cast<Bytef*>(packed.data()), &packedSize, reinterpret_cast<const Bytef*>(body.data()),
              body.size(), 9);
    packed.resize(packedSize);
    std::string all;
    bigEndian(all, 0x1c849314, 4);  // cookie of compressed V2
    bigEndian(all, packed.size(), 4);
    return base64(all + packed);
  }

 private:
  static constexpr int64_t kHighest = 100'000'000'000;
  static constexpr size_t kHalf = 1024, kBuckets = 27;  // 2048 << 26 is the first power above kHighest

  static void bigEndian(std::string& out, uint64_t v, int bytes) {
    for (int i = bytes - 1; i >= 0; i--) out += char(v >> (8 * i));
  }

  static void zigZag(std::string& out, int64_t signedValue) {
    uint64_t v = (uint64_t(signedValue) << 1) ^ uint64_t(signedValue >> 63);
    for (int i = 0; i < 8 && v > 0x7f; i++, v >>= 7) out += char((v & 0x7f) | 0x80);
    out += char(v);
  }

  static std::string base64(const std::string& in) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    for (size_t i = 0; i < in.size(); i += 3) {
      uint32_t three = 0;
      for (size_t k = 0; k < 3; k++) three = three << 8 | (i + k < in.size() ? uint8_t(in[i + k]) : 0);
      for (size_t k = 0; k < 4; k++) out += i + k <= in.size() ? digits[three >> (18 - 6 * k) & 63] : '=';
    }
    return out;
  }

  std::vector<int64_t> counts_;
};

// Result is the line that a driver ends with.
struct Result {
  uint64_t messages = 0, wrong = 0, missing = 0;
  int64_t nanos = 0;
  Usage start, end;
  std::string histogram, version, settings;

  void print() const {
    rusage u;
    getrusage(RUSAGE_SELF, &u);
    std::printf("{\"messages\": %llu, \"ns\": %lld, ", (unsigned long long)messages, (long long)nanos);
    if (!histogram.empty()) std::printf("\"histogram\": \"%s\", ", histogram.c_str());
    std::printf("\"cpu_ns\": %lld, \"switches\": %lld, \"rss\": %lld, \"wrong\": %llu, \"missing\": %llu, ",
                (long long)(end.cpuNanos - start.cpuNanos), (long long)(end.switches - start.switches),
                (long long)u.ru_maxrss * 1024, (unsigned long long)wrong, (unsigned long long)missing);
    std::printf("\"version\": \"%s\", \"settings\": \"%s\"}\n", version.c_str(), settings.c_str());
    std::fflush(stdout);
  }
};

}  // namespace driver
