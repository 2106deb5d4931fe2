// status --watch on a terminal: a screen that is drawn each second, until the operator has seen enough.
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <nlohmann/json.hpp>

#include "tools/audit_file.h"
#include "tools/audit_record.h"
#include "tools/lockstep_common.h"
#include "tools/lockstep_host.h"
#include "tools/lockstep_progress.h"
#include "tools/node_choice.h"
#include "tools/watch_screen.h"

namespace lockstep::tools {
namespace {

using nlohmann::json;

constexpr uint64_t kDrawEveryMs = 1000;

// The other screen of the terminal, without a cursor; what was there before comes back at the end, whatever ends it.
class OtherScreen {
 public:
  OtherScreen() {
    sigemptyset(&signals_);
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH}) sigaddset(&signals_, number);
    ::sigprocmask(SIG_BLOCK, &signals_, &before_);
    fd_ = ::signalfd(-1, &signals_, SFD_CLOEXEC);
    if (fd_ < 0) fail(system_error("cannot wait for signals", errno));
    typed_is_shown_ = ::tcgetattr(STDIN_FILENO, &terminal_) == 0;
    if (typed_is_shown_) {
      termios quiet = terminal_;
      quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
      ::tcsetattr(STDIN_FILENO, TCSANOW, &quiet);
    }
    print_text("\033[?1049h\033[?25l");
  }
  ~OtherScreen() {
    if (typed_is_shown_) ::tcsetattr(STDIN_FILENO, TCSANOW, &terminal_);
    try {
      print_text("\033[?25h\033[?1049l");
    } catch (const CommandError&) {
      // The terminal is gone.
    }
    ::close(fd_);
    ::sigprocmask(SIG_SETMASK, &before_, nullptr);
  }
  OtherScreen(const OtherScreen&) = delete;
  OtherScreen& operator=(const OtherScreen&) = delete;

  // False: it is to end. Returns early when the size has changed.
  bool wait_until(uint64_t deadline_ms) const {
    const uint64_t now_ms = monotonic_ms();
    pollfd waited{fd_, POLLIN, 0};
    const int left_ms = deadline_ms > now_ms ? static_cast<int>(deadline_ms - now_ms) : 0;
    if (::poll(&waited, 1, left_ms) <= 0) return true;
    signalfd_siginfo signal{};
    if (::read(fd_, &signal, sizeof signal) != static_cast<ssize_t>(sizeof signal)) return true;
    return signal.ssi_signo == SIGWINCH;
  }

 private:
  sigset_t signals_{};
  sigset_t before_{};
  termios terminal_{};
  bool typed_is_shown_ = false;
  int fd_ = -1;
};

bool wants_colours() {
  const char* no_color = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  const bool dumb = terminal == nullptr || std::string_view(terminal) == "dumb";
  return !dumb && (no_color == nullptr || *no_color == '\0');
}

json latencies_of(const std::string& socket_path) {
  Result<ControlConnection> connection = ControlConnection::open(socket_path);
  if (!connection) return {};
  const Result<ControlReply> reply = connection->ask("latencies", json::object(), deadline_after_ms(kStatusTimeoutMs));
  return reply && reply->exit == 0 ? *reply->data : json();
}

void keep(WatchHistory& history, const json& status, const std::string& run_dir) {
  const std::string resource = status.value("resource", std::string());
  const std::string node = status.value("node", std::string());
  std::deque<WatchSample>& samples = history[{resource, node}];
  samples.push_back({monotonic_ms(), status, latencies_of(control_socket_path(run_dir, resource, node))});
  if (samples.size() > kWatchedSamples) samples.pop_front();
}

}  // namespace

ExitCode run_watch(const Arguments& arguments) {
  // Before the screen changes: what is wrong with the command is said on the screen that stays.
  std::optional<Place> place;
  if (!arguments.resource.empty()) place = place_of_daemon(arguments);
  if (!place && arguments.has("config")) throw CommandError(ExitCode::Usage, "--config needs the name of its resource");
  const std::string run_dir = place ? place->run_dir : choose_run_dir(arguments.value("run-dir"));
  const OtherScreen screen;
  WatchHistory history;
  WatchView view;
  view.colours = wants_colours();
  uint64_t next_ms = monotonic_ms();
  for (;;) {
    if (monotonic_ms() >= next_ms) {
      next_ms = monotonic_ms() + kDrawEveryMs;
      const HostStatus host = host_status(run_dir, !place && !arguments.has("run-dir"));
      WatchHistory kept;
      view.notices.clear();
      const auto is_wanted = [&](const std::string& resource, const std::string& node) {
        if (place && (resource != place->resource || node != place->node)) return false;
        return place || !arguments.has("node") || node == arguments.value("node");
      };
      for (const json& status : host.running) {
        const std::pair name{status.value("resource", std::string()), status.value("node", std::string())};
        if (!is_wanted(name.first, name.second)) continue;
        kept[name] = std::move(history[name]);
        keep(kept, status, run_dir);
      }
      for (const auto& stopped : host.stopped) {
        if (is_wanted(stopped.resource, stopped.node)) {
          view.notices.push_back(stopped.resource + " on " + stopped.node + " " + stopped.line);
        }
      }
      for (const std::string& error : host.errors) view.notices.push_back(error);
      if (place && kept.empty() && view.notices.empty()) {
        view.notices.push_back(place->resource + " is down on node " + place->node);
      }
      history = std::move(kept);
      view.title = "lockstep  " + format_stamp(next_audit_stamp(0)).substr(0, 19) + "Z  each second; Ctrl-C ends it";
    }
    const ScreenSize size = screen_size(STDOUT_FILENO);
    view.columns = size.columns;
    view.rows = size.rows > 1 ? size.rows - 1 : 1;
    // Drawn over, line by line, so that nothing flickers.
    std::string text = render_watch(history, view);
    for (size_t at = text.find("\r\n"); at != std::string::npos; at = text.find("\r\n", at + 5))
      text.insert(at, "\033[K");
    print_text("\033[H" + text + "\033[J");
    if (!screen.wait_until(next_ms)) return ExitCode::Done;
  }
}

}  // namespace lockstep::tools
