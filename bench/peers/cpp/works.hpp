// The four works of bench/DRIVERS.md over one endpoint of a contender.
//
// An Endpoint has these; wait says that a process that waits sleeps in the kernel until there is something to return:
//
//   uint8_t* claim(bool wait)          where the next message is to be written; nullptr: no room now
//   bool commit(bool wait)             sends it; false: no room now, to be called again
//   const uint8_t* receive(bool wait)  the next message; nullptr: none now
//   void release()                     the received message is not needed any more
//   bool flush(bool wait)              sends what the batch form has held back; false: no room now
//
// One thread may send (claim, commit, flush) while another receives. Beside the numbered messages there are a few that
// steer the run: their first word has its top bit set, which no number has.
#pragma once

#include "driver.hpp"

namespace driver {

constexpr uint64_t kStep = 0x9E3779B97F4A7C15;
constexpr uint64_t kHello = 0xC000000000000000;    // the client is there
constexpr uint64_t kMeasure = 0xA000000000000000;  // what follows is measured
constexpr uint64_t kStop = 0xB000000000000000;     // what follows is not
constexpr uint64_t kEnd = 0xE000000000000000;      // the last; the lower bits: how many messages were sent
constexpr uint64_t kSteers = 0x8000000000000000;
constexpr uint64_t kKind = 0xF000000000000000;

template <class Endpoint>
class Works {
 public:
  Works(const Args& args, Endpoint& endpoint, Watch& watch)
      : args_(args), endpoint_(endpoint), watch_(watch), sleeps_(Endpoint::kSleeps), lastWord_(args.size / 8 - 1) {}

  Result run() {
    if (args_.server()) {
      while (!tryControl()) sleepNanos(50000);  // a client that never comes: standard input ends this
    } else {
      put(kHello);
    }
    bool asks = args_.work == "roundtrip" || args_.work == "requests";
    if (asks && args_.server()) answer();
    else if (asks) ask();
    else if (args_.work == "both") both();
    else if (args_.server()) stream();
    else while (streamTaken(next())) {}
    // The server made what the two share: it stays until the client has said that it is done.
    if (!args_.server()) put(kEnd);
    else if (!asks) awaitControl();
    result_.wrong += wrong_;
    return result_;
  }

 private:
  // ---- sending

  void fill(uint8_t* place, uint64_t first) {
    auto words = reinterpret_cast<uint64_t*>(place);
    if (args_.check)
      for (size_t k = 1; k < lastWord_; k++) words[k] = first + k * kStep;
    words[lastWord_] = first + lastWord_ * kStep;
    words[0] = first;
  }

  // tryPut sends a message that starts with this word. After false it is called again with the same word.
  bool tryPut(uint64_t first, bool wait) {
    if (place_ == nullptr) {
      place_ = endpoint_.claim(wait);
      if (place_ == nullptr) return false;
      fill(place_, first);
    }
    if (!endpoint_.commit(wait)) return false;
    place_ = nullptr;
    return true;
  }

  bool trySend(bool wait) {
    if (!tryPut(sent_, wait)) return false;
    sent_++;
    return true;
  }

  void send() {
    while (!trySend(sleeps_)) relax();
  }

  // put sends a word that steers the run, at once.
  void put(uint64_t first) {
    while (place_ != nullptr && !trySend(sleeps_)) relax();
    while (!tryPut(first, sleeps_)) relax();
    flush();
  }

  void flush() {
    while (!endpoint_.flush(sleeps_)) relax();
  }

  // ---- receiving

  // take judges a message and releases it; false: it steers the run, and control_ is its first word.
  bool take(const uint8_t* message) {
    auto words = reinterpret_cast<const uint64_t*>(message);
    uint64_t first = words[0];
    if (first != received_) [[unlikely]] {
      if (first & kSteers) {
        control_ = first;
        endpoint_.release();
        return false;
      }
      wrong_++;
      if (first < received_) {  // repeated
        endpoint_.release();
        return true;
      }
      lost_ += first - received_;
      received_ = first;
    }
    if (args_.check) {
      bool right = true;
      for (size_t k = 1; k <= lastWord_; k++) right &= words[k] == first + k * kStep;
      wrong_ += !right;
    } else {
      if (words[lastWord_] != first + lastWord_ * kStep) [[unlikely]]
        wrong_++;
      if constexpr (Endpoint::kView) {
        uint64_t sum = 0;
        for (size_t k = 8; k < lastWord_; k += 8) sum += words[k];
        asm volatile("" ::"r"(sum));
      }
    }
    received_++;
    endpoint_.release();
    return true;
  }

  // next waits for a message. Before it does, it sends what was held back, unless another thread is the sender.
  const uint8_t* next(bool flushes = true) {
    if (Endpoint::kBatch && flushes) {
      do {
        const uint8_t* message = endpoint_.receive(false);
        if (message != nullptr) return message;
      } while (!endpoint_.flush(false));
    }
    for (;;) {
      const uint8_t* message = endpoint_.receive(sleeps_);
      if (message != nullptr) return message;
      relax();
    }
  }

  void awaitControl() {
    while (take(next())) {
    }
  }

  bool tryControl() {
    const uint8_t* message = endpoint_.receive(false);
    return message != nullptr && !take(message);
  }

  // ---- roundtrip and requests

  void answer() {
    for (;;) {
      if (take(next())) {
        send();
        continue;
      }
      if (control_ == kMeasure) result_.start = Usage::take();
      if (control_ == kStop) result_.end = Usage::take();
      if ((control_ & kKind) == kEnd) return;
      put(control_);
    }
  }

  void ask() {
    watch_.arm(args_.warmNanos);
    askUntilExpired<false>();
    tell(kMeasure);
    result_.start = Usage::take();
    uint64_t before = received_;
    watch_.arm(args_.timeNanos);
    int64_t start = now();
    auto [count, end] = askUntilExpired<false>();
    result_.messages = count - before;
    result_.nanos = end - start;
    result_.end = Usage::take();
    tell(kStop);
    watch_.arm(args_.timeNanos);
    askUntilExpired<true>();
    result_.histogram = histogram_.encode();
    result_.missing = sent_ - received_;
  }

  void tell(uint64_t first) {
    put(first);
    awaitControl();
  }

  struct Reached {
    uint64_t received;
    int64_t at;
  };

  // askUntilExpired asks until the time is over, and then takes the answers that are still under way.
  template <bool clocked>
  Reached askUntilExpired() {
    if (args_.work == "roundtrip") {
      while (!watch_.expired.load(std::memory_order_relaxed)) {
        int64_t start = clocked ? now() : 0;
        send();
        take(next());
        if (clocked) histogram_.record(now() - start);
        pause();
      }
      return {received_, now()};
    }
    std::vector<int64_t> starts(clocked ? args_.inflight : 0);
    auto handle = [&](const uint8_t* message) {
      uint64_t number = received_;
      take(message);
      if (clocked) histogram_.record(now() - starts[number % args_.inflight]);
    };
    Reached reached{0, 0};
    for (;;) {
      bool over = watch_.expired.load(std::memory_order_relaxed);
      if (over && reached.at == 0) reached = {received_, now()};
      if (over && place_ == nullptr && sent_ == received_) return reached;
      while ((!over || place_ != nullptr) && sent_ - received_ < args_.inflight) {
        if (clocked && place_ == nullptr) starts[sent_ % args_.inflight] = now();
        if (!trySend(sleeps_ && sent_ == received_)) break;  // asleep here, nobody would take the answers
      }
      endpoint_.flush(false);
      if (sent_ == received_) continue;
      handle(next());
      if constexpr (Endpoint::kBatch)
        while (const uint8_t* message = sent_ == received_ ? nullptr : endpoint_.receive(false)) handle(message);
    }
  }

  void pause() {
    if (args_.pauseNanos == 0) return;
    if (sleeps_) return sleepNanos(args_.pauseNanos);
    for (int64_t end = now() + args_.pauseNanos; now() < end;) relax();
  }

  // ---- oneway and both

  // streamStep sends one message or what steers the run; false: no room now.
  bool streamStep(bool wait) {
    if (place_ == nullptr) {
      bool over = watch_.expired.load(std::memory_order_relaxed);
      first_ = !over ? sent_ : measuring_ ? kEnd | sent_ : kMeasure;
    }
    if (!tryPut(first_, wait)) return false;
    if (!(first_ & kSteers)) [[likely]] {
      sent_++;
      return true;
    }
    if (measuring_) {
      streamed_ = true;
      sendEnd_ = Usage::take();
    } else {
      measuring_ = true;
      sendStart_ = Usage::take();
      watch_.arm(args_.timeNanos);
    }
    return true;
  }

  void stream() {
    watch_.arm(args_.warmNanos);
    while (!streamed_)
      if (!streamStep(sleeps_)) relax();
    flush();
    result_.start = sendStart_;
    result_.end = sendEnd_;
  }

  // streamTaken takes a message of a stream; false: it was the last.
  bool streamTaken(const uint8_t* message) {
    if (take(message)) return true;
    if (control_ == kMeasure) {
      result_.start = Usage::take();
      measuredFrom_ = received_ - lost_;
      startNanos_ = now();
      return true;
    }
    result_.nanos = now() - startNanos_;
    result_.messages = received_ - lost_ - measuredFrom_;
    result_.missing = (control_ & ~kKind) - (received_ - lost_);
    result_.end = Usage::take();
    return false;
  }

  void both() {
    watch_.arm(args_.warmNanos);
    if (sleeps_) {
      std::thread sender([this] {
        while (!streamed_) streamStep(true);
        flush();
      });
      while (streamTaken(next(false))) {
      }
      sender.join();
      return;
    }
    bool drained = false;
    while (!streamed_ || !drained || !endpoint_.flush(false)) {
      bool idle = true;
      for (int i = 0; i < kBurst && !streamed_ && streamStep(false); i++) idle = false;
      endpoint_.flush(false);
      for (int i = 0; i < kBurst && !drained; i++) {
        const uint8_t* message = endpoint_.receive(false);
        if (message == nullptr) break;
        drained = !streamTaken(message);
        idle = false;
      }
      if (idle) relax();
    }
  }

  static constexpr int kBurst = 32;  // both on one thread: so many are sent, so many received

  const Args& args_;
  Endpoint& endpoint_;
  Watch& watch_;
  const bool sleeps_;
  const size_t lastWord_;
  Result result_;
  Histogram histogram_;
  int64_t startNanos_ = 0;
  uint64_t measuredFrom_ = 0;

  // what the sender writes
  alignas(64) uint64_t sent_ = 0;
  uint8_t* place_ = nullptr;
  uint64_t first_ = 0;  // what place_ begins with
  bool measuring_ = false, streamed_ = false;
  Usage sendStart_, sendEnd_;

  // what the receiver writes
  alignas(64) uint64_t received_ = 0;  // the number that comes next
  uint64_t wrong_ = 0, lost_ = 0, control_ = 0;
};

// ready says that a client can come.
inline void ready() {
  std::printf("ready\n");
  std::fflush(stdout);
}

}  // namespace driver
