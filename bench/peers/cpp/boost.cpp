// Boost.Interprocess message_queue, one for each direction. Spinning calls its try_ functions in a loop; else its
// blocking ones are called.
#include <boost/interprocess/ipc/message_queue.hpp>
#include <boost/version.hpp>

#include <algorithm>

#include "works.hpp"

namespace {

using boost::interprocess::message_queue;

// queueSize gives a queue as much memory as the other contenders have, and at least eight messages.
size_t queueSize(const driver::Args& args) { return std::clamp<size_t>((1 << 20) / args.size, 8, 4096); }

template <bool sleeps>
class Endpoint {
 public:
  static constexpr bool kSleeps = sleeps, kView = false, kBatch = false;

  Endpoint(const driver::Args& args, message_queue& out, message_queue& in)
      : size_(args.size), out_(out), in_(in), sent_(size_ / 8), received_(size_ / 8) {}

  uint8_t* claim(bool) { return reinterpret_cast<uint8_t*>(sent_.data()); }

  bool commit(bool wait) {
    if (!sleeps || !wait) return out_.try_send(sent_.data(), size_, 0);
    out_.send(sent_.data(), size_, 0);
    return true;
  }

  const uint8_t* receive(bool wait) {
    size_t size = 0;
    unsigned priority;
    if (sleeps && wait) in_.receive(received_.data(), size_, size, priority);
    else if (!in_.try_receive(received_.data(), size_, size, priority)) return nullptr;
    if (size != size_) driver::die("a message has another size");
    return reinterpret_cast<const uint8_t*>(received_.data());
  }

  void release() {}
  bool flush(bool) { return true; }

 private:
  size_t size_;
  message_queue &out_, &in_;
  alignas(64) std::vector<uint64_t> sent_;
  alignas(64) std::vector<uint64_t> received_;
};

// Names of the queues: they lie in /dev/shm itself, wherever DIR is, so the name holds all of DIR.
struct Names {
  std::string toServer, toClient;

  explicit Names(std::string dir) {
    std::replace(dir.begin(), dir.end(), '/', '_');
    toServer = "bench" + dir + "_s";
    toClient = "bench" + dir + "_c";
  }
  void remove() const {
    message_queue::remove(toServer.c_str());
    message_queue::remove(toClient.c_str());
  }
};

template <bool sleeps>
void run(const driver::Args& args) {
  using namespace boost::interprocess;
  Names names(args.dir);
  driver::Watch watch([names] { names.remove(); });
  auto make = [&](const std::string& name) {
    return args.server() ? message_queue(create_only, name.c_str(), queueSize(args), args.size)
                         : message_queue(open_only, name.c_str());
  };
  message_queue toServer = make(names.toServer), toClient = make(names.toClient);
  if (args.server()) driver::ready();
  else names.remove();  // both have them mapped: nothing is left behind
  Endpoint<sleeps> endpoint(args, args.server() ? toClient : toServer, args.server() ? toServer : toClient);
  driver::Result result = driver::Works(args, endpoint, watch).run();
  result.version = "Boost.Interprocess " + std::to_string(BOOST_VERSION / 100000) + "." +
                   std::to_string(BOOST_VERSION / 100 % 1000) + ", g++ " __VERSION__;
  result.settings = "message_queue of " + std::to_string(queueSize(args)) + " messages each way, " +
                    (sleeps ? "send and receive" : "try_send and try_receive in a loop with pause");
  result.print();
}

}  // namespace

int main(int argc, char** argv) {
  driver::Args args = driver::parse(argc, argv);
  if (args.form != "copy") driver::unsupported("message_queue copies one message at a time");
  try {
    if (args.wait == "spin") run<false>(args);
    else run<true>(args);
  } catch (const std::exception& e) {
    driver::die(e.what());
  }
}
