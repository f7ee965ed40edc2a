// A ring for one producer and one consumer in shared memory, as a good C++ programmer writes it: fixed slots, each side
// keeps a copy of the other's position and reads the shared one only when the copy says full or empty.
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>

#include "works.hpp"

namespace {

enum class Form { copy, view, batch };

struct Position {
  alignas(64) std::atomic<uint64_t> count{0};
};

// Doorbell is where one side sleeps: 1 while it does.
struct Doorbell {
  alignas(64) std::atomic<uint32_t> asleep{0};

  // wait sleeps unless there is work after the other side can see that we are about to sleep.
  template <class HasWork>
  void wait(HasWork hasWork) {
    asleep.store(1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    while (asleep.load(std::memory_order_relaxed) == 1 && !hasWork())
      syscall(SYS_futex, &asleep, FUTEX_WAIT, 1, nullptr, nullptr, 0);
    asleep.store(0, std::memory_order_relaxed);
  }

  void ring() {
    asleep.store(0, std::memory_order_relaxed);
    syscall(SYS_futex, &asleep, FUTEX_WAKE, 1, nullptr, nullptr, 0);
  }
};

struct Header {
  Position written, read;
  Doorbell producer, consumer;
};

struct Geometry {
  size_t slotSize, slotCount;

  static Geometry of(const driver::Args& args) {
    size_t slot = args.size < 64 ? args.size : (args.size + 63) / 64 * 64;
    size_t count = std::bit_floor(std::clamp<size_t>((1 << 20) / slot, 8, 1 << 20));
    return {slot, count};
  }
  size_t batch() const { return std::min<size_t>(64, slotCount / 4); }
  size_t bytes() const { return 4096 + slotSize * slotCount; }
};

// copyMessage knows the sizes for which a call of memcpy costs more than the copy.
inline void copyMessage(uint8_t* to, const uint8_t* from, size_t size) {
  switch (size) {
    case 8: std::memcpy(to, from, 8); break;
    case 64: std::memcpy(to, from, 64); break;
    default: std::memcpy(to, from, size);
  }
}

template <Form form, bool sleeps>
class Endpoint {
 public:
  static constexpr bool kSleeps = sleeps, kView = form == Form::view, kBatch = form == Form::batch;

  Endpoint(const driver::Args& args, uint8_t* out, uint8_t* in)
      : geometry_(Geometry::of(args)),
        size_(args.size),
        mask_(geometry_.slotCount - 1),
        batch_(geometry_.batch()),
        out_{reinterpret_cast<Header*>(out), out + 4096, std::vector<uint64_t>(size_ / 8)},
        in_{reinterpret_cast<Header*>(in), in + 4096, std::vector<uint64_t>(size_ / 8)} {}

  uint8_t* claim(bool wait) {
    if constexpr (form != Form::view) return reinterpret_cast<uint8_t*>(out_.message.data());
    return room(wait) ? slot(out_) : nullptr;
  }

  bool commit(bool wait) {
    if constexpr (form != Form::view) {
      if (!room(wait)) return false;
      copyMessage(slot(out_), reinterpret_cast<uint8_t*>(out_.message.data()), size_);
    }
    out_.position++;
    if (form != Form::batch || out_.position - out_.shown >= batch_) showWritten();
    return true;
  }

  const uint8_t* receive(bool wait) {
    if (in_.position == in_.others) {
      in_.others = in_.header->written.count.load(std::memory_order_acquire);
      if (in_.position == in_.others) {
        showRead();
        if (!sleeps || !wait) return nullptr;
        do {
          in_.header->consumer.wait(
              [&] { return in_.header->written.count.load(std::memory_order_acquire) != in_.position; });
          in_.others = in_.header->written.count.load(std::memory_order_acquire);
        } while (in_.position == in_.others);
      }
    }
    if constexpr (form == Form::view) return slot(in_);
    auto message = reinterpret_cast<uint8_t*>(in_.message.data());
    copyMessage(message, slot(in_), size_);
    finished();
    return message;
  }

  void release() {
    if constexpr (form == Form::view) finished();
  }

  bool flush(bool) {
    if constexpr (form == Form::batch) showWritten();
    return true;
  }

 private:
  struct alignas(64) Side {
    Header* header;
    uint8_t* slots;
    std::vector<uint64_t> message;  // the caller's own memory, from and to which the message is copied
    uint64_t position = 0;          // ours
    uint64_t shown = 0;             // ours, as the other side sees it
    uint64_t others = 0;            // the other side's, as last read
  };

  uint8_t* slot(Side& side) { return side.slots + (side.position & mask_) * geometry_.slotSize; }

  bool room(bool wait) {
    auto full = [&] { return out_.position - out_.others >= geometry_.slotCount; };
    if (!full()) return true;
    auto load = [&] { out_.others = out_.header->read.count.load(std::memory_order_acquire); };
    load();
    if (!full()) return true;
    showWritten();
    if (!sleeps || !wait) return false;
    do {
      out_.header->producer.wait([&] { return load(), !full(); });
      load();
    } while (full());
    return true;
  }

  void showWritten() {
    if (out_.shown == out_.position) return;
    out_.shown = out_.position;
    out_.header->written.count.store(out_.position, std::memory_order_release);
    if constexpr (!sleeps) return;
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (out_.header->consumer.asleep.load(std::memory_order_relaxed)) out_.header->consumer.ring();
  }

  void finished() {
    in_.position++;
    if (form != Form::batch || in_.position - in_.shown >= batch_) showRead();
  }

  // showRead wakes a producer only when half of the ring is free: else the two would change places for each message.
  void showRead() {
    if (in_.shown == in_.position) return;
    in_.shown = in_.position;
    in_.header->read.count.store(in_.position, std::memory_order_release);
    if constexpr (!sleeps) return;
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (!in_.header->producer.asleep.load(std::memory_order_relaxed)) return;
    uint64_t held = in_.header->written.count.load(std::memory_order_relaxed) - in_.position;
    if (held <= geometry_.slotCount / 2) in_.header->producer.ring();
  }

  Geometry geometry_;
  size_t size_;
  uint64_t mask_, batch_;
  Side out_, in_;
};

uint8_t* mapFile(const std::string& path, size_t size, bool create) {
  int fd = open(path.c_str(), O_RDWR | O_CLOEXEC | (create ? O_CREAT | O_EXCL : 0), 0600);
  if (fd < 0) driver::dieOf("open");
  if (create && ftruncate(fd, size) != 0) driver::dieOf("ftruncate");
  void* base = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (base == MAP_FAILED) driver::dieOf("mmap");
  close(fd);
  return static_cast<uint8_t*>(base);
}

template <Form form, bool sleeps>
void run(const driver::Args& args) {
  std::string path = args.dir + "/spsc";
  size_t bytes = Geometry::of(args).bytes();
  driver::Watch watch([path] { unlink(path.c_str()); });
  uint8_t* base = mapFile(path, 2 * bytes, args.server());
  if (args.server()) driver::ready();
  else unlink(path.c_str());
  uint8_t *out = base, *in = base + bytes;
  if (!args.server()) std::swap(out, in);
  Endpoint<form, sleeps> endpoint(args, out, in);
  driver::Result result = driver::Works(args, endpoint, watch).run();
  Geometry g = Geometry::of(args);
  result.version = "C++ SPSC, g++ " __VERSION__;
  result.settings = std::to_string(g.slotCount) + " slots of " + std::to_string(g.slotSize) + " B each way, waits by " +
                    (sleeps ? "futex" : "pause");
  if (form == Form::batch) result.settings += ", copies, positions shown every " + std::to_string(g.batch());
  result.print();
}

template <Form form>
void run(const driver::Args& args) {
  if (args.wait == "block") run<form, true>(args);
  else run<form, false>(args);
}

}  // namespace

int main(int argc, char** argv) {
  driver::Args args = driver::parse(argc, argv);
  if (args.form == "batch" && args.work == "roundtrip") driver::unsupported("a round trip is one message at a time");
  if (args.form == "view") run<Form::view>(args);
  else if (args.form == "batch") run<Form::batch>(args);
  else run<Form::copy>(args);
}
