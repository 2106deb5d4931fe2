#include "io/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <sstream>

namespace lockstep::io {
namespace {

// A file in memory takes what the child writes: nothing to read while it runs, and it cannot grow.
int open_output() {
  const int fd = memfd_create("child-output", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return -1;
  if (ftruncate(fd, kChildOutputBytes) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) == 0) return fd;
  close(fd);
  return -1;
}

std::vector<char*> pointers(const std::vector<std::string>& words) {
  std::vector<char*> list;
  list.reserve(words.size() + 1);
  for (const std::string& word : words) list.push_back(const_cast<char*>(word.c_str()));
  list.push_back(nullptr);
  return list;
}

int spawn(const ChildSpec& spec, int output_fd, pid_t& process) {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&files, output_fd, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&files, output_fd, STDERR_FILENO);
  posix_spawn_file_actions_addchdir_np(&files, "/");
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  const std::vector<char*> arguments = pointers(spec.arguments);
  const std::vector<char*> environment = pointers(spec.environment);
  const int error = posix_spawn(&process, arguments.front(), &files, &attributes, arguments.data(), environment.data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  return error;
}

}  // namespace

ChildProcess::ChildProcess(Loop& loop, pid_t process, int pid_fd, int output_fd, uint64_t deadline_ms)
    : loop_(loop), process_(process), pid_fd_(pid_fd), output_fd_(output_fd), deadline_(loop, [this] {
        timed_out_ = true;
        kill();
      }) {
  deadline_.start_once_ms(deadline_ms);
}

Result<std::unique_ptr<ChildProcess>> ChildProcess::start(Loop& loop, const ChildSpec& spec) {
  if (spec.arguments.empty() || spec.arguments.front().empty() || spec.arguments.front().front() != '/') {
    return Error{ErrorKind::Invalid, 0, "a command starts with the absolute path of its program"};
  }
  const int output_fd = open_output();
  if (output_fd < 0) return system_error("cannot make a file for a program's output", errno);
  pid_t process = 0;
  if (const int error = spawn(spec, output_fd, process); error != 0) {
    close(output_fd);
    return system_error("cannot run " + spec.arguments.front(), error);
  }
  // Not reaped yet, so the number is still this child's.
  const auto pid_fd = static_cast<int>(syscall(SYS_pidfd_open, process, 0));
  if (pid_fd < 0) {
    const int error = errno;
    ::kill(-process, SIGKILL);
    waitpid(process, nullptr, 0);
    close(output_fd);
    return system_error("cannot watch " + spec.arguments.front(), error);
  }
  return std::unique_ptr<ChildProcess>(new ChildProcess(loop, process, pid_fd, output_fd, spec.deadline_ms));
}

ChildProcess::~ChildProcess() {
  deadline_.cancel();
  if (process_ != 0) {
    kill();
    waitpid(process_, nullptr, 0);
  }
  close(pid_fd_);
  close(output_fd_);
}

void ChildProcess::kill() {
  if (process_ != 0) ::kill(-process_, SIGKILL);
}

Task<ChildEnd> ChildProcess::ended() {
  const int32_t ready = co_await loop_.poll(pid_fd_, POLLIN);
  if (ready < 0) kill();
  int status = 0;
  waitpid(process_, &status, 0);
  process_ = 0;
  deadline_.cancel();
  ChildEnd end;
  end.timed_out = timed_out_;
  if (WIFEXITED(status) && !timed_out_) end.exit_code = WEXITSTATUS(status);
  // The place in the file is shared with the child.
  const off_t written = lseek(output_fd_, 0, SEEK_CUR);
  if (written > 0) {
    end.output.resize(static_cast<size_t>(written));
    const ssize_t length = pread(output_fd_, end.output.data(), end.output.size(), 0);
    end.output.resize(length > 0 ? static_cast<size_t>(length) : 0);
  }
  co_return end;
}

std::vector<std::string> split_words(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

}  // namespace lockstep::io
