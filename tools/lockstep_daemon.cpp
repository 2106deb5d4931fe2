// up and down: starting and stopping the node's daemon.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "replicator/metadata_setup.h"
#include "tools/disk_inspection.h"
#include "tools/lockstep_common.h"
#include "tools/node_choice.h"
#include "tools/stopped_node.h"

extern char** environ;

namespace lockstep::tools {
namespace {

using nlohmann::json;

constexpr uint64_t kDefaultTimeoutMs = 30'000;
constexpr auto kPollPeriod = std::chrono::milliseconds(5);

void say(const Arguments& arguments, const std::string& line) {
  if (arguments.has("json")) {
    print_json(json{{"message", line}});
  } else {
    print_text(line + "\n");
  }
}

// The daemon that was built or installed with this command, else the one in PATH.
std::string daemon_program() {
  std::error_code code;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", code);
  if (!code) {
    for (const auto& folder : {self.parent_path(), self.parent_path().parent_path() / "sbin"}) {
      const std::string candidate = (folder / "lockstepd").string();
      if (::access(candidate.c_str(), X_OK) == 0) return candidate;
    }
  }
  return "lockstepd";
}

// The process that answers on the control socket, 0 when none does.
pid_t answering_process(const std::string& socket_path, uint64_t deadline_ms) {
  Result<ControlConnection> connection = ControlConnection::open(socket_path);
  if (!connection) return 0;
  const pid_t process = connection->peer_pid();
  const Result<ControlReply> reply = connection->ask("status", json::object(), deadline_ms);
  return reply && reply->exit == 0 ? process : 0;
}

class SpawnPlan {
 public:
  explicit SpawnPlan(const std::string& log_path) {
    posix_spawn_file_actions_init(&actions_);
    posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions_, STDOUT_FILENO, log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0640);
    posix_spawn_file_actions_adddup2(&actions_, STDOUT_FILENO, STDERR_FILENO);
    // So that the daemon keeps no file system busy that somebody happened to stand in.
    posix_spawn_file_actions_addchdir_np(&actions_, "/");
    posix_spawnattr_init(&attributes_);
    sigset_t signals;
    sigemptyset(&signals);
    posix_spawnattr_setsigmask(&attributes_, &signals);
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE}) sigaddset(&signals, number);
    posix_spawnattr_setsigdefault(&attributes_, &signals);
    // A session of its own: the terminal that it was started from does not end it.
    posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  ~SpawnPlan() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;

  pid_t start(const std::vector<std::string>& command) const {
    std::vector<char*> words;
    for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    pid_t process = 0;
    const int code = ::posix_spawnp(&process, words[0], &actions_, &attributes_, words.data(), environ);
    if (code != 0) {
      throw CommandError(ExitCode::Failed, "cannot start " + command[0] + ": " + std::strerror(code));
    }
    return process;
  }

 private:
  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
};

// The last line that was logged behind `offset`.
std::string last_logged_line(const std::string& log_path, uint64_t offset) {
  std::ifstream log(log_path, std::ios::binary);
  log.seekg(static_cast<std::streamoff>(offset));
  std::string last;
  for (std::string line; std::getline(log, line);) {
    if (!line.empty()) last = line;
  }
  return last;
}

[[noreturn]] void fail_with_log(const Place& place, const std::string& log_path, uint64_t log_offset, int wait_status) {
  std::string line = last_logged_line(log_path, log_offset);
  if (line.empty()) line = "it said nothing";
  ExitCode code = ExitCode::Failed;
  std::string ended = "did not start";
  if (WIFSIGNALED(wait_status)) ended = std::string("was killed by signal ") + std::to_string(WTERMSIG(wait_status));
  if (WIFEXITED(wait_status)) {
    if (WEXITSTATUS(wait_status) == static_cast<int>(ExitCode::Usage)) code = ExitCode::Usage;
    if (WEXITSTATUS(wait_status) == static_cast<int>(ExitCode::Refused)) code = ExitCode::Refused;
  }
  throw CommandError(code, "the daemon of " + place.resource + " on node " + place.node + " " + ended + ": " + line +
                               " (log: " + log_path + ")");
}

// Stops a daemon of ours that did not come up in time.
void end_child(pid_t process) {
  ::kill(process, SIGTERM);
  const uint64_t deadline_ms = deadline_after_ms(5000);
  while (::waitpid(process, nullptr, WNOHANG) == 0) {
    if (monotonic_ms() >= deadline_ms) {
      ::kill(process, SIGKILL);
      ::waitpid(process, nullptr, 0);
      return;
    }
    std::this_thread::sleep_for(kPollPeriod);
  }
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

bool wait_for_end(int process_fd, const Place& place, uint64_t deadline_ms) {
  for (;;) {
    if (process_fd >= 0) {
      pollfd waited{process_fd, POLLIN, 0};
      if (::poll(&waited, 1, 10) > 0) return true;
    } else {
      const Result<ControlConnection> connection = ControlConnection::open(place.socket_path);
      if (!connection && connection.error().kind == ErrorKind::NotFound) return true;
      std::this_thread::sleep_for(kPollPeriod);
    }
    if (monotonic_ms() >= deadline_ms) return false;
  }
}

[[noreturn]] void would_not_start(const Place& place, const std::string& why) {
  throw CommandError(ExitCode::Failed,
                     "the daemon of " + place.resource + " on node " + place.node + " would not start: " + why);
}

// What the daemon looks at first: that its files are there, free, its own, and long enough.
void plan_start(const Arguments& arguments, const Place& place) {
  const NodeConfiguration& node = place.own_node();
  uint64_t disk_bytes = 0;
  StoppedNode stopped(place);
  if (const Status status = stopped.check(); !status) would_not_start(place, status.error().message);
  for (const std::string& path : {node.disk, node.metadata}) {
    const Result<HeldPath> held = stopped.hold(path);
    if (!held) would_not_start(place, held.error().message);
    if (held->kind() == PathKind::Missing) {
      would_not_start(place, (path == node.disk ? "the disk " : "the metadata ") + path +
                                 " does not exist: make it with '" + place.command("create") + "'");
    }
    if (path == node.disk) disk_bytes = held->size_bytes();
  }
  const Result<repl::MetadataSummary> summary = repl::summarize_metadata(node.metadata);
  if (!summary) would_not_start(place, summary.error().message);
  const repl::Superblock& superblock = summary->superblock;
  if (superblock.resource_name != place.resource || superblock.node_name != place.node) {
    would_not_start(place, node.metadata + " is that of " + superblock.resource_name + " on node " +
                               superblock.node_name + ": correct 'metadata' in the configuration");
  }
  if (disk_bytes < superblock.identity.size_bytes) {
    would_not_start(place, node.disk + " has " + std::to_string(disk_bytes) + " bytes, the resource needs " +
                               std::to_string(superblock.identity.size_bytes));
  }
  say(arguments, "it would be done: the daemon of " + place.resource + " on node " + place.node + " would start with " +
                     place.configuration_path);
}

}  // namespace

ExitCode run_up(const Arguments& arguments) {
  const uint64_t timeout_ms = timeout_ms_of(arguments, kDefaultTimeoutMs);
  const Place place = place_of_configuration(arguments);
  const std::string name = place.resource + " on node " + place.node;
  if (answering_process(place.socket_path, deadline_after_ms(kStatusTimeoutMs)) != 0) {
    say(arguments, name + " is up already");
    return ExitCode::Done;
  }
  if (arguments.has("dry-run")) {
    plan_start(arguments, place);
    return ExitCode::Done;
  }
  std::error_code code;
  std::filesystem::create_directories(place.run_dir, code);
  if (code) throw CommandError(ExitCode::Failed, "cannot make the run folder " + place.run_dir + ": " + code.message());
  const std::string log_path = daemon_log_path(place.run_dir, place.resource, place.node);
  std::error_code no_log;
  const uintmax_t log_size = std::filesystem::file_size(log_path, no_log);
  const uint64_t log_offset = no_log ? 0 : log_size;

  const uint64_t deadline_ms = deadline_after_ms(timeout_ms);
  const pid_t process =
      SpawnPlan(log_path).start({daemon_program(), place.resource, "--config", place.configuration_path, "--node",
                                 place.node, "--run-dir", place.run_dir});
  for (;;) {
    int wait_status = 0;
    if (::waitpid(process, &wait_status, WNOHANG) == process) {
      // Somebody else may have started one at the same time.
      if (answering_process(place.socket_path, deadline_ms) != 0) {
        say(arguments, name + " is up already");
        return ExitCode::Done;
      }
      fail_with_log(place, log_path, log_offset, wait_status);
    }
    if (answering_process(place.socket_path, deadline_ms) == process) return ExitCode::Done;
    if (monotonic_ms() >= deadline_ms) {
      end_child(process);
      throw CommandError(ExitCode::Failed, "the daemon of " + name + " did not answer within " +
                                               std::to_string(timeout_ms / 1000) +
                                               " s and was stopped (log: " + log_path + ")");
    }
    std::this_thread::sleep_for(kPollPeriod);
  }
}

ExitCode run_down(const Arguments& arguments) {
  const uint64_t deadline_ms = deadline_after_ms(timeout_ms_of(arguments, kDefaultTimeoutMs));
  const Place place = place_of_daemon(arguments);
  const std::string name = place.resource + " on node " + place.node;
  Result<ControlConnection> opened = ControlConnection::open(place.socket_path);
  if (!opened && opened.error().kind == ErrorKind::NotFound) {
    say(arguments, name + " is down already");
    return ExitCode::Done;
  }
  if (!opened) fail_without_daemon(place, opened.error());
  ControlConnection connection = std::move(opened).value();
  const pid_t process = connection.peer_pid();
  const Descriptor process_fd(process > 0 ? static_cast<int>(::syscall(SYS_pidfd_open, process, 0)) : -1);
  const Result<ControlReply> reply = connection.ask("down", json::object(), deadline_ms);
  // A daemon that ends fast may take its answer along.
  if (!reply && reply.error().kind != ErrorKind::Closed) fail_without_daemon(place, reply.error());
  if (reply && reply->exit != 0) {
    throw CommandError(reply->exit == 3 ? ExitCode::Refused : ExitCode::Failed, reply->message);
  }
  if (!wait_for_end(process_fd.get(), place, deadline_ms)) {
    throw CommandError(ExitCode::Failed, "the daemon of " + name + " (process " + std::to_string(process) +
                                             ") was told to end and has not yet: its disk may be slow, see its log");
  }
  return ExitCode::Done;
}

}  // namespace lockstep::tools
