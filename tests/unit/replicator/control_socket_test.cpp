#include "replicator/control_socket.h"

#include <stdlib.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "io/stream.h"

using namespace lockstep;
using namespace lockstep::repl;
using nlohmann::json;

namespace {

class Folder {
 public:
  Folder() { REQUIRE(::mkdtemp(path_.data()) != nullptr); }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string socket() const { return path_ + "/r.alpha.sock"; }

 private:
  std::string path_ = "/tmp/lockstep-control-XXXXXX";
};

class FakeDaemon final : public ControlVerbs {
 public:
  json status() override {
    ++status_calls;
    return current;
  }
  void execute(ControlRequest request, std::unique_ptr<ControlAnswer> answer) override {
    last = request;
    if (request.verb == "promote") {
      answer->done(ControlExit::Refused, "beta is absent", json{{"absent", {"beta"}}});
    } else if (request.verb == "demote") {
      held = std::move(answer);
    } else if (request.verb == "forget") {
      answer.reset();
    } else {
      answer->done(ControlExit::Usage, "unknown verb '" + request.verb + "'");
    }
  }

  json current = {{"resource", "r"},
                  {"role", "Secondary"},
                  {"writes", 0},
                  {"size-bytes", 4096},
                  {"peers", {{{"node", "beta"}, {"connection-state", "Connecting"}, {"lag-ms", 7}}}}};
  int status_calls = 0;
  ControlRequest last;
  std::unique_ptr<ControlAnswer> held;
};

// One client of the socket, in the daemon's own loop.
class Client {
 public:
  explicit Client(std::unique_ptr<io::Stream> stream) : stream_(std::move(stream)) {}

  io::Task<bool> send(std::string text) {
    const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size());
    const Status sent = co_await stream_->write_all(bytes);
    co_return sent.ok();
  }
  // The next document, or null at the connection's end.
  io::Task<json> receive() {
    std::array<uint8_t, 4096> part{};
    size_t end = std::string::npos;
    while ((end = received_.find('\n')) == std::string::npos) {
      const Result<size_t> got = co_await stream_->read_some(part);
      if (!got) co_return json();
      received_.append(reinterpret_cast<const char*>(part.data()), *got);
    }
    const json document = json::parse(received_.substr(0, end));
    received_.erase(0, end + 1);
    co_return document;
  }
  io::Task<json> ask(std::string text) {
    text += "\n";
    const bool sent = co_await send(text);
    if (!sent) co_return json();
    const json answer = co_await receive();
    co_return answer;
  }
  void leave() { stream_->shutdown(); }

 private:
  std::unique_ptr<io::Stream> stream_;
  std::string received_;
};

struct Fixture {
  Folder folder;
  std::unique_ptr<io::Loop> loop;
  FakeDaemon daemon;
  std::unique_ptr<ControlSocket> socket;

  Fixture() {
    auto made = io::Loop::create({64, 1024 * 1024});
    REQUIRE(made.ok());
    loop = std::move(made).value();
    auto opened = ControlSocket::open(*loop, folder.socket(), daemon);
    REQUIRE(opened.ok());
    socket = std::move(opened).value();
  }

  io::Task<std::unique_ptr<Client>> client() {
    io::Address address;
    address.family = io::AddressFamily::Unix;
    address.path = folder.socket();
    auto stream = co_await io::connect_stream(*loop, address, 5000);
    if (!stream) co_return nullptr;
    co_return std::make_unique<Client>(std::move(stream).value());
  }

  using Story = io::Task<void> (*)(Fixture&);
  static io::Task<void> tell(Fixture& fixture, Story story) {
    co_await story(fixture);
    co_await fixture.socket->close();
    fixture.loop->stop();
  }
  void run(Story story) {
    loop->spawn(tell(*this, story));
    loop->run();
  }
};

io::Task<void> status_and_orders(Fixture& f) {
  auto client = co_await f.client();
  const json status = co_await client->ask(R"({"verb":"status"})");
  CHECK(status["exit"] == 0);
  CHECK(status["data"] == f.daemon.current);

  const json refused = co_await client->ask(R"({"verb":"promote","arguments":{"peer-fenced":true,"to":"b","n":5}})");
  CHECK(refused == json{{"exit", 3}, {"message", "beta is absent"}, {"data", {{"absent", {"beta"}}}}});
  CHECK(f.daemon.last.flag("peer-fenced"));
  CHECK(f.daemon.last.text("to") == "b");
  CHECK(f.daemon.last.number("n") == 5);
  CHECK_FALSE(f.daemon.last.flag("to"));
  CHECK_FALSE(f.daemon.last.has("missing"));

  const json unknown = co_await client->ask(R"({"verb":"dance"})");
  CHECK(unknown == json{{"exit", 2}, {"message", "unknown verb 'dance'"}});
}

io::Task<void> late_answers(Fixture& f) {
  auto slow = co_await f.client();
  auto other = co_await f.client();
  co_await slow->send("{\"verb\":\"demote\"}\n{\"verb\":\"status\"}\n");
  while (!f.daemon.held) {
    const json status = co_await other->ask(R"({"verb":"status"})");
    CHECK(status["exit"] == 0);
  }
  f.daemon.held->done(ControlExit::Done, "demoted");
  f.daemon.held.reset();
  const json first = co_await slow->receive();
  CHECK(first == json{{"exit", 0}, {"message", "demoted"}});
  const json second = co_await slow->receive();
  CHECK(second["data"]["resource"] == "r");

  const json forgotten = co_await other->ask(R"({"verb":"forget"})");
  CHECK(forgotten == json{{"exit", 1}, {"message", "the daemon ended before the order was carried out"}});
}

io::Task<void> close_with_order_in_flight(Fixture& f) {
  auto client = co_await f.client();
  co_await client->send("{\"verb\":\"demote\"}\n");
  auto other = co_await f.client();
  while (!f.daemon.held) co_await other->ask(R"({"verb":"status"})");
  co_await f.socket->close();
  const json answer = co_await client->receive();
  CHECK(answer == json{{"exit", 1}, {"message", "the daemon ended before the order was carried out"}});
  const json end = co_await client->receive();
  CHECK(end.is_null());
  CHECK_FALSE(std::filesystem::exists(f.folder.socket()));
}

io::Task<void> answer_given_just_before_close(Fixture& f) {
  auto client = co_await f.client();
  co_await client->send("{\"verb\":\"demote\"}\n");
  auto other = co_await f.client();
  while (!f.daemon.held) co_await other->ask(R"({"verb":"status"})");
  f.daemon.held->done(ControlExit::Done, "");
  co_await f.socket->close();
  const json answer = co_await client->receive();
  CHECK(answer["exit"] == 0);
}

io::Task<void> events(Fixture& f) {
  auto client = co_await f.client();
  const json first = co_await client->ask(R"({"verb":"events"})");
  CHECK(first == json{{"event", "exists"}, {"status", f.daemon.current}});
  const int calls = f.daemon.status_calls;

  // Counters are no events, and a turn with many notices asks once.
  f.daemon.current["writes"] = 100;
  f.daemon.current["peers"][0]["lag-ms"] = 1;
  for (int i = 0; i < 10; ++i) f.socket->state_changed();
  co_await f.loop->sleep_ms(1);
  CHECK(f.daemon.status_calls == calls + 1);

  f.daemon.current["peers"][0]["connection-state"] = "Connected";
  f.socket->state_changed();
  const json change = co_await client->receive();
  CHECK(change == json{{"event", "change"}, {"status", f.daemon.current}});

  // A client that comes later starts from the present state; both hear the next change, and only that.
  auto late = co_await f.client();
  const json exists = co_await late->ask(R"({"verb":"events"})");
  CHECK(exists["event"] == "exists");
  f.daemon.current["role"] = "Primary";
  f.socket->state_changed();
  const json to_first = co_await client->receive();
  const json to_late = co_await late->receive();
  CHECK(to_first["status"]["role"] == "Primary");
  CHECK(to_late == to_first);

  // Nobody is asked when nobody listens any more.
  client->leave();
  late->leave();
  auto other = co_await f.client();
  const int before = f.daemon.status_calls;
  co_await other->ask(R"({"verb":"dance"})");
  f.socket->state_changed();
  co_await other->ask(R"({"verb":"dance"})");
  CHECK(f.daemon.status_calls == before);
}

io::Task<void> slow_listener(Fixture& f) {
  auto client = co_await f.client();
  co_await client->ask(R"({"verb":"events"})");
  auto other = co_await f.client();
  f.daemon.current["padding"] = std::string(16 * 1024, 'x');
  for (int i = 0; i < 200; ++i) {
    f.daemon.current["role"] = std::to_string(i);
    f.socket->state_changed();
    const json answer = co_await other->ask(R"({"verb":"dance"})");
    CHECK(answer["exit"] == 2);
  }
  int received = 0;
  for (;;) {
    const json event = co_await client->receive();
    if (event.is_null()) break;
    ++received;
  }
  CHECK(received < 100);
}

io::Task<void> garbage(Fixture& f) {
  const std::vector<std::pair<std::string, std::string>> lines = {
      {"hello", "not a JSON document"},
      {"", "not a JSON document"},
      {"[1]", "not a JSON object"},
      {"{}", "no verb"},
      {R"({"verb":5})", "unexpected 'verb'"},
      {R"({"verb":"x","more":1})", "unexpected 'more'"},
      {R"({"verb":"x","arguments":[]})", "unexpected 'arguments'"},
      {R"({"verb":"x","arguments":{"a":-1}})", "argument 'a' is neither a boolean, an unsigned number nor a string"},
      {R"({"verb":"x","arguments":{"a":{}}})", "argument 'a' is neither a boolean, an unsigned number nor a string"},
      {std::string(30000, '['), "not a JSON document"},
      {std::string("\0\xff\xfe", 3), "not a JSON document"},
  };
  for (const auto& [line, why] : lines) {
    auto client = co_await f.client();
    const json answer = co_await client->ask(line);
    CHECK(answer["exit"] == 1);
    CHECK(answer["message"] == "not a request: " + why + R"(: send {"verb":"status"} and a line end)");
    const json end = co_await client->receive();
    CHECK(end.is_null());
  }
}

io::Task<void> endless_line(Fixture& f) {
  auto client = co_await f.client();
  const std::string part(70 * 1024, 'x');
  co_await client->send(part);
  const json answer = co_await client->receive();
  CHECK(answer["message"] == "not a request: the line is longer than 65536 bytes");
  const json end = co_await client->receive();
  CHECK(end.is_null());
}

io::Task<void> too_many_clients(Fixture& f) {
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 32; ++i) {
    auto client = co_await f.client();
    const json answer = co_await client->ask(R"({"verb":"status"})");
    CHECK(answer["exit"] == 0);
    clients.push_back(std::move(client));
  }
  auto refused = co_await f.client();
  const json answer = co_await refused->receive();
  CHECK(answer["exit"] == 1);
  CHECK(answer["message"] == "too many clients of the control socket: end some of them and try again");

  clients.pop_back();
  for (;;) {
    auto next = co_await f.client();
    const json served = co_await next->ask(R"({"verb":"status"})");
    if (!served.is_null() && served["exit"] == 0) break;
  }
}

io::Task<void> clients_that_leave(Fixture& f) {
  for (const char* text : {"", "{\"verb\":\"sta", "{\"verb\":\"demote\"}\n", "{\"verb\":\"events\"}\n"}) {
    auto client = co_await f.client();
    co_await client->send(text);
    client->leave();
  }
  auto other = co_await f.client();
  while (!f.daemon.held) co_await other->ask(R"({"verb":"status"})");
  f.daemon.held->done(ControlExit::Done, "");
  const json answer = co_await other->ask(R"({"verb":"status"})");
  CHECK(answer["exit"] == 0);
}

}  // namespace

TEST_CASE("the control socket answers status and orders") {
  Fixture().run(status_and_orders);
}
TEST_CASE("an answer may come turns later, and others are served meanwhile") {
  Fixture().run(late_answers);
}
TEST_CASE("closing tells a client that its order was not carried out") {
  Fixture().run(close_with_order_in_flight);
}
TEST_CASE("an answer given before closing is delivered") {
  Fixture().run(answer_given_just_before_close);
}
TEST_CASE("events carry changes of state and no counters") {
  Fixture().run(events);
}
TEST_CASE("a listener that does not read is dropped") {
  Fixture().run(slow_listener);
}
TEST_CASE("garbage on the control socket gets one error line") {
  Fixture().run(garbage);
}
TEST_CASE("a line without end is refused") {
  Fixture().run(endless_line);
}
TEST_CASE("the number of control clients is bounded") {
  Fixture().run(too_many_clients);
}
TEST_CASE("clients of the control socket may leave at any point") {
  Fixture().run(clients_that_leave);
}

TEST_CASE("an answer may outlive the control socket") {
  std::unique_ptr<ControlAnswer> held;
  {
    Fixture fixture;
    fixture.run(close_with_order_in_flight);
    held = std::move(fixture.daemon.held);
  }
  REQUIRE(held);
  held->done(ControlExit::Done, "nobody hears this");
}

TEST_CASE("stopping the loop alone ends the control socket too") {
  Fixture fixture;
  struct Stop {
    static io::Task<void> soon(Fixture& f) {
      auto client = co_await f.client();
      auto listener = co_await f.client();
      co_await listener->ask(R"({"verb":"events"})");
      co_await client->send("{\"verb\":\"demote\"}\n");
      auto other = co_await f.client();
      while (!f.daemon.held) co_await other->ask(R"({"verb":"status"})");
      f.loop->stop();
    }
  };
  fixture.loop->spawn(Stop::soon(fixture));
  fixture.loop->run();
  CHECK(fixture.loop->operations_in_flight() == 0);
}

TEST_CASE("the control socket is the owner's alone, and one daemon's alone") {
  Fixture fixture;
  struct stat about {};
  REQUIRE(::stat(fixture.folder.socket().c_str(), &about) == 0);
  CHECK((about.st_mode & 0777) == 0600);
  FakeDaemon second;
  const auto busy = ControlSocket::open(*fixture.loop, fixture.folder.socket(), second);
  REQUIRE_FALSE(busy.ok());
  CHECK(busy.error().kind == ErrorKind::Busy);
  struct End {
    static io::Task<void> nothing(Fixture&) { co_return; }
  };
  fixture.run(End::nothing);
}

TEST_CASE("the state part of a status has no counters") {
  const json status = {{"role", "Primary"},
                       {"degraded", false},
                       {"size-bytes", 4096},
                       {"writes", 9},
                       {"nbd", {{{"uri", "x"}, {"clients", 3}}}},
                       {"peers", {{{"node", "b"}, {"lag-ms", 4}, {"resync", {{"note", "y"}}}}}}};
  CHECK(state_part(status) == json{{"role", "Primary"},
                                   {"degraded", false},
                                   {"size-bytes", 4096},
                                   {"nbd", {{{"uri", "x"}}}},
                                   {"peers", {{{"node", "b"}}}}});
}
