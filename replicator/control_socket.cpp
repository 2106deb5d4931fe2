#include "replicator/control_socket.h"

#include <algorithm>
#include <array>
#include <deque>
#include <nlohmann/json.hpp>
#include <optional>

#include "io/listener.h"
#include "io/stream.h"
#include "io/timer.h"

namespace lockstep::repl {
namespace {

using nlohmann::json;

constexpr size_t kMaximumLineBytes = 64 * 1024;
constexpr size_t kMaximumClients = 32;
constexpr size_t kMaximumUnreadEventBytes = 256 * 1024;
constexpr uint64_t kClosingTimeMs = 500;  // for clients to take their last answer
constexpr uint64_t kAcceptPauseMs = 100;

// One line. Bytes that are no UTF-8 (a path, say) are replaced, not refused.
std::string line_of(const json& document) {
  return document.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

std::string answer_line_of(ControlExit exit, const std::string& message, const json& data) {
  json document = {{"exit", static_cast<int>(exit)}, {"message", message}};
  if (!data.is_null()) document["data"] = data;
  return line_of(document);
}

std::string event_line_of(const char* event, const json& status) {
  return line_of(json{{"event", event}, {"status", status}});
}

std::span<const uint8_t> bytes_of(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

Result<ControlRequest> parse_request(const std::string& line) {
  const auto invalid = [](const std::string& why) {
    return Error{ErrorKind::Invalid, 0, "not a request: " + why + R"(: send {"verb":"status"} and a line end)"};
  };
  const json document = json::parse(line, nullptr, false);
  if (document.is_discarded()) return invalid("not a JSON document");
  if (!document.is_object()) return invalid("not a JSON object");
  ControlRequest request;
  for (const auto& [key, value] : document.items()) {
    if (key == "verb" && value.is_string()) {
      request.verb = value.get<std::string>();
      continue;
    }
    if (key != "arguments" || !value.is_object()) return invalid("unexpected '" + key + "'");
    for (const auto& [name, argument] : value.items()) {
      if (argument.is_boolean()) {
        request.arguments.emplace(name, argument.get<bool>());
      } else if (argument.is_number_unsigned()) {
        request.arguments.emplace(name, argument.get<uint64_t>());
      } else if (argument.is_string()) {
        request.arguments.emplace(name, argument.get<std::string>());
      } else {
        return invalid("argument '" + name + "' is neither a boolean, an unsigned number nor a string");
      }
    }
  }
  if (request.verb.empty()) return invalid("no verb");
  return request;
}

}  // namespace

bool ControlRequest::flag(const std::string& name) const {
  const auto found = arguments.find(name);
  const bool* value = found == arguments.end() ? nullptr : std::get_if<bool>(&found->second);
  return value != nullptr && *value;
}

std::string ControlRequest::text(const std::string& name) const {
  const auto found = arguments.find(name);
  const std::string* value = found == arguments.end() ? nullptr : std::get_if<std::string>(&found->second);
  return value == nullptr ? std::string() : *value;
}

uint64_t ControlRequest::number(const std::string& name) const {
  const auto found = arguments.find(name);
  const uint64_t* value = found == arguments.end() ? nullptr : std::get_if<uint64_t>(&found->second);
  return value == nullptr ? 0 : *value;
}

void ControlAnswer::done(ControlExit exit, const std::string& message) {
  done(exit, message, json());
}

json state_part(const json& status) {
  json state = status.is_array() ? json::array() : json::object();
  for (const auto& [key, value] : status.items()) {
    if (key == "resync" || key == "verify") continue;
    json part;
    if (value.is_structured()) {
      part = state_part(value);
    } else if (value.is_string() || value.is_boolean() || key == "size-bytes") {
      part = value;
    } else {
      continue;
    }
    if (state.is_array()) {
      state.push_back(std::move(part));
    } else {
      state[key] = std::move(part);
    }
  }
  return state;
}

// One client. Owned by its coroutines and by the list of sessions; answers refer to it weakly.
struct ControlSocket::Session {
  Session(io::Loop& loop, std::unique_ptr<io::Stream> client) : stream(std::move(client)), wake(loop) {}

  std::unique_ptr<io::Stream> stream;
  io::Signal wake;
  std::string received;               // bytes behind the last line that was taken
  bool busy = false;                  // between a line and the end of its answer
  std::optional<std::string> answer;  // the line to send

  bool listening = false;
  bool left = false;  // the client ended the connection, or was dropped
  std::deque<std::string> events;
  size_t unread_event_bytes = 0;
  std::string known_state;  // dump of the state part that the client was told last

  void queue_event(std::string line) {
    unread_event_bytes += line.size();
    events.push_back(std::move(line));
    if (unread_event_bytes > kMaximumUnreadEventBytes) {
      left = true;
      stream->shutdown();
    }
    wake.notify_all();
  }
};

class ControlSocket::SessionAnswer final : public ControlAnswer {
 public:
  explicit SessionAnswer(const std::shared_ptr<Session>& session) : session_(session) {}
  ~SessionAnswer() override {
    if (!done_) give(answer_line_of(ControlExit::Failed, "the daemon ended before the order was carried out", json()));
  }
  void done(ControlExit exit, const std::string& message, const json& data) override {
    LOCKSTEP_CHECK(!done_);
    done_ = true;
    give(answer_line_of(exit, message, data));
  }

 private:
  void give(std::string line) {
    const std::shared_ptr<Session> session = session_.lock();
    if (session == nullptr) return;
    session->answer = std::move(line);
    session->wake.notify_all();
  }

  std::weak_ptr<Session> session_;
  bool done_ = false;
};

class ControlSocket::ChangeNotice final : public io::Runnable {
 public:
  explicit ChangeNotice(ControlSocket& socket) : socket_(socket) {}
  void run() noexcept override { socket_.publish_changes(); }

 private:
  ControlSocket& socket_;
};

ControlSocket::ControlSocket(io::Loop& loop, ControlVerbs& verbs, std::unique_ptr<io::Listener> listener)
    : loop_(loop),
      verbs_(verbs),
      listener_(std::move(listener)),
      gate_(loop),
      notice_(std::make_unique<ChangeNotice>(*this)) {}

ControlSocket::~ControlSocket() {
  LOCKSTEP_CHECK(gate_.inside() == 0);
}

Result<std::unique_ptr<ControlSocket>> ControlSocket::open(io::Loop& loop, const std::string& path,
                                                           ControlVerbs& verbs) {
  io::Address address;
  address.family = io::AddressFamily::Unix;
  address.path = path;
  io::ListenerOptions options;
  options.unix_mode = 0600;
  Result<std::unique_ptr<io::Listener>> listener = io::Listener::open(loop, address, options);
  if (!listener) return std::move(listener).error();
  std::unique_ptr<ControlSocket> socket(new ControlSocket(loop, verbs, std::move(listener).value()));
  loop.spawn(socket->accept_clients());
  return socket;
}

void ControlSocket::state_changed() {
  if (notice_->listed()) return;
  const bool heard =
      std::any_of(sessions_.begin(), sessions_.end(), [](const auto& session) { return session->listening; });
  if (heard) loop_.defer(*notice_);
}

void ControlSocket::publish_changes() {
  const json status = verbs_.status();
  const std::string state = state_part(status).dump(-1, ' ', false, json::error_handler_t::replace);
  std::string line;
  for (const auto& session : sessions_) {
    if (!session->listening || session->left || session->known_state == state) continue;
    if (line.empty()) line = event_line_of("change", status);
    session->known_state = state;
    session->queue_event(line);
  }
}

io::Task<void> ControlSocket::accept_clients() {
  const io::GatePass pass(gate_);
  while (!closing_ && !loop_.stopping()) {
    Result<std::unique_ptr<io::Stream>> accepted = co_await listener_->accept();
    if (!accepted) {
      if (accepted.error().kind == ErrorKind::Closed) break;
      co_await loop_.sleep_ms(kAcceptPauseMs);
      continue;
    }
    std::unique_ptr<io::Stream> stream = std::move(accepted).value();
    if (sessions_.size() >= kMaximumClients) {
      loop_.spawn(refuse(std::move(stream)));
      continue;
    }
    auto session = std::make_shared<Session>(loop_, std::move(stream));
    sessions_.push_back(session);
    loop_.spawn(serve(session));
  }
}

io::Task<void> ControlSocket::refuse(std::unique_ptr<io::Stream> stream) {
  const io::GatePass pass(gate_);
  const std::string line = answer_line_of(
      ControlExit::Failed, "too many clients of the control socket: end some of them and try again", json());
  const Status ignored = co_await stream->write_all(bytes_of(line));
  static_cast<void>(ignored);
  stream->close();
}

io::Task<void> ControlSocket::serve(std::shared_ptr<Session> session) {
  const io::GatePass pass(gate_);
  std::array<uint8_t, 4096> part{};
  for (;;) {
    const size_t end = session->received.find('\n');
    if (end == std::string::npos && session->received.size() <= kMaximumLineBytes) {
      if (closing_) break;
      const Result<size_t> got = co_await session->stream->read_some(part);
      if (!got) break;
      session->received.append(reinterpret_cast<const char*>(part.data()), *got);
      continue;
    }
    session->busy = true;
    if (end > kMaximumLineBytes) {  // also npos: no line end so far
      const std::string line = answer_line_of(
          ControlExit::Failed, "not a request: the line is longer than " + std::to_string(kMaximumLineBytes) + " bytes",
          json());
      const Status ignored = co_await session->stream->write_all(bytes_of(line));
      static_cast<void>(ignored);
      break;
    }
    std::string line = session->received.substr(0, end);
    session->received.erase(0, end + 1);
    const bool goes_on = co_await answer_line(session, std::move(line));
    session->busy = false;
    if (!goes_on) break;
  }
  session->stream->close();
  std::erase(sessions_, session);
}

io::Task<bool> ControlSocket::answer_line(std::shared_ptr<Session> session, std::string line) {
  Result<ControlRequest> request = parse_request(line);
  std::string answer;
  bool goes_on = true;
  if (!request) {
    answer = answer_line_of(ControlExit::Failed, request.error().message, json());
    goes_on = false;
  } else if (request->verb == "events") {
    co_await stream_events(session);
    co_return false;
  } else if (request->verb == "status") {
    answer = answer_line_of(ControlExit::Done, "", verbs_.status());
  } else {
    session->answer.reset();
    if (const auto credentials = session->stream->peer_credentials()) {
      request->process = credentials->process;
      request->user = credentials->user;
    }
    verbs_.execute(std::move(request).value(), std::make_unique<SessionAnswer>(session));
    co_await await_answer(session);
    answer =
        std::move(session->answer)
            .value_or(answer_line_of(ControlExit::Failed, "the daemon ended before the order was carried out", json()));
  }
  const Status written = co_await session->stream->write_all(bytes_of(answer));
  co_return goes_on&& written.ok();
}

io::Task<void> ControlSocket::await_answer(std::shared_ptr<Session> session) {
  while (!session->answer.has_value() && !closing_ && !loop_.stopping()) co_await session->wake.wait();
}

io::Task<void> ControlSocket::stream_events(std::shared_ptr<Session> session) {
  const json status = verbs_.status();
  session->known_state = state_part(status).dump(-1, ' ', false, json::error_handler_t::replace);
  session->listening = true;
  session->queue_event(event_line_of("exists", status));
  loop_.spawn(watch_for_end(session));
  while (!session->left && !closing_ && !loop_.stopping()) {
    if (session->events.empty()) {
      co_await session->wake.wait();
      continue;
    }
    const std::string line = std::move(session->events.front());
    session->events.pop_front();
    const Status written = co_await session->stream->write_all(bytes_of(line));
    // Counted until it is written, so that a client that does not read is found also with one event under way.
    session->unread_event_bytes -= line.size();
    if (!written) break;
  }
  session->listening = false;
  session->stream->shutdown();
}

io::Task<void> ControlSocket::watch_for_end(std::shared_ptr<Session> session) {
  const io::GatePass pass(gate_);
  std::array<uint8_t, 256> ignored{};
  for (;;) {
    const Result<size_t> got = co_await session->stream->read_some(ignored);
    if (!got) break;
  }
  session->left = true;
  session->wake.notify_all();
}

io::Task<void> ControlSocket::close() {
  closing_ = true;
  listener_->close();
  const std::vector<std::shared_ptr<Session>> sessions = sessions_;
  for (const auto& session : sessions) {
    if (session->busy) {
      session->wake.notify_all();
    } else {
      session->stream->shutdown();
    }
  }
  io::Timer patience(loop_, [this] {
    for (const auto& session : sessions_) session->stream->shutdown();
  });
  patience.start_once_ms(kClosingTimeMs);
  co_await gate_.emptied();
}

}  // namespace lockstep::repl
