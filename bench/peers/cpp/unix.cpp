// A Unix stream socket with bare system calls: what the kernel costs, without Go's net. The batch form writes and reads
// 64 KiB at a time.
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>

#include "works.hpp"

namespace {

constexpr size_t kBatchBytes = 64 << 10, kSocketBytes = 1 << 20;

template <bool batch, bool sleeps>
class Endpoint {
 public:
  static constexpr bool kSleeps = sleeps, kView = false, kBatch = batch;

  Endpoint(const driver::Args& args, int fd)
      : fd_(fd),
        size_(args.size),
        capacity_(batch ? std::max(size_, kBatchBytes / size_ * size_) : size_),
        out_(capacity_ / 8),
        in_(capacity_ / 8) {}

  uint8_t* claim(bool wait) {
    if (written_ > 0 || filled_ == capacity_)  // a write has begun: it comes to its end first
      if (!writeAll(wait)) return nullptr;
    return bytes(out_) + filled_;
  }

  bool commit(bool wait) {
    if constexpr (batch) {
      filled_ += size_;
      return true;
    }
    filled_ = size_;
    return writeAll(wait);
  }

  const uint8_t* receive(bool wait) {
    if (taken_ + size_ > held_) {
      std::memmove(bytes(in_), bytes(in_) + taken_, held_ - taken_);
      held_ -= taken_;
      taken_ = 0;
      while (held_ < size_) {
        ssize_t n = recv(fd_, bytes(in_) + held_, capacity_ - held_, wait && sleeps ? 0 : MSG_DONTWAIT);
        if (n == 0) driver::die("the peer has closed the socket");
        if (n < 0 && errno == EAGAIN) return nullptr;
        if (n < 0 && errno != EINTR) driver::dieOf("recv");
        if (n > 0) held_ += n;
      }
    }
    return bytes(in_) + taken_;
  }

  void release() { taken_ += size_; }

  bool flush(bool wait) { return !batch || writeAll(wait); }

 private:
  static uint8_t* bytes(std::vector<uint64_t>& words) { return reinterpret_cast<uint8_t*>(words.data()); }

  bool writeAll(bool wait) {
    while (written_ < filled_) {
      ssize_t n = ::send(fd_, bytes(out_) + written_, filled_ - written_,
                         MSG_NOSIGNAL | (wait && sleeps ? 0 : MSG_DONTWAIT));
      if (n < 0 && errno == EAGAIN) return false;
      if (n < 0 && errno != EINTR) driver::dieOf("send");
      if (n > 0) written_ += n;
    }
    written_ = filled_ = 0;
    return true;
  }

  int fd_;
  size_t size_, capacity_;
  alignas(64) std::vector<uint64_t> out_;
  size_t filled_ = 0, written_ = 0;
  alignas(64) std::vector<uint64_t> in_;
  size_t held_ = 0, taken_ = 0;
};

// meet connects the two. Only the server makes the socket's file; it goes as soon as the client is there.
int meet(const driver::Args& args, const std::string& path) {
  sockaddr_un address{AF_UNIX, {}};
  if (path.size() >= sizeof address.sun_path) driver::die("DIR is too long for a Unix socket");
  std::strcpy(address.sun_path, path.c_str());
  auto where = reinterpret_cast<sockaddr*>(&address);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) driver::dieOf("socket");
  if (args.server()) {
    if (bind(fd, where, sizeof address) != 0 || listen(fd, 1) != 0) driver::dieOf("listen");
    driver::ready();
    int client = accept4(fd, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) driver::dieOf("accept");
    unlink(path.c_str());
    close(fd);
    fd = client;
  } else if (connect(fd, where, sizeof address) != 0) {
    driver::dieOf("connect");
  }
  int size = kSocketBytes;
  if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0)
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  return fd;
}

template <bool batch, bool sleeps>
void run(const driver::Args& args) {
  std::string path = args.dir + "/socket";
  driver::Watch watch([path] { unlink(path.c_str()); });
  int fd = meet(args, path);
  Endpoint<batch, sleeps> endpoint(args, fd);
  driver::Result result = driver::Works(args, endpoint, watch).run();
  int size = 0;
  socklen_t length = sizeof size;
  getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, &length);
  result.version = "Unix stream, g++ " __VERSION__;
  result.settings = "SO_SNDBUF " + std::to_string(size) + ", " +
                    (batch ? "writes and reads of up to 64 KiB" : "a write and a read for each message") + ", " +
                    (sleeps ? "blocking" : "MSG_DONTWAIT in a loop with pause");
  result.print();
}

template <bool batch>
void run(const driver::Args& args) {
  if (args.wait == "spin") run<batch, false>(args);
  else run<batch, true>(args);
}

}  // namespace

int main(int argc, char** argv) {
  driver::Args args = driver::parse(argc, argv);
  if (args.form == "view") driver::unsupported("a socket copies");
  if (args.form == "batch" && args.work == "roundtrip") driver::unsupported("a round trip is one message at a time");
  if (args.form == "batch") run<true>(args);
  else run<false>(args);
}
