// What a host that forbids io_uring gets to read. A child process forbids it to itself.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <string>

#include "tests/unit/io/support.h"

namespace lockstep::io {
namespace {

bool forbid_io_uring(uint32_t with_errno) {
  std::array<sock_filter, 4> program = {{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | with_errno),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  }};
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

// The message of Loop::create in a child that gets `with_errno` from io_uring_setup; "kind: message".
std::string refusal(uint32_t with_errno) {
  std::array<int, 2> ends{};
  REQUIRE(pipe(ends.data()) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    std::string told = "cannot forbid";
    if (forbid_io_uring(with_errno)) {
      Result<std::unique_ptr<Loop>> loop = Loop::create();
      told = loop.ok()
                 ? "it was allowed"
                 : (loop.error().kind == ErrorKind::Unsupported ? "Unsupported: " : "other: ") + loop.error().message;
    }
    [[maybe_unused]] const ssize_t written = write(ends[1], told.data(), told.size());
    _exit(0);
  }
  close(ends[1]);
  std::string told;
  std::array<char, 512> piece{};
  for (ssize_t got = 0; (got = read(ends[0], piece.data(), piece.size())) > 0;) {
    told.append(piece.data(), static_cast<size_t>(got));
  }
  close(ends[0]);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return told;
}

}  // namespace

TEST_CASE("where io_uring is forbidden, the error says what to allow") {
  const std::string told = refusal(EPERM);
  INFO(told);
  CHECK(told.starts_with("Unsupported: "));
  CHECK(told.find("kernel.io_uring_disabled") != std::string::npos);
  CHECK(told.find("seccomp") != std::string::npos);
  CHECK(told.find('\n') == std::string::npos);
}

TEST_CASE("where the kernel has no io_uring, the error says which kernel to use") {
  const std::string told = refusal(ENOSYS);
  INFO(told);
  CHECK(told.starts_with("Unsupported: "));
  CHECK(told.find("6.1") != std::string::npos);
}

TEST_CASE("a ring without the newer features is what a loop can do with") {
  auto plain = make_loop({64, size_t{1} << 20, true});
  CHECK_FALSE(plain->features().single_issuer);
  CHECK_FALSE(plain->features().deferred_task_run);
  CHECK_FALSE(plain->features().cooperative_task_run);
  CHECK_FALSE(plain->features().fixed_buffers);
  auto loop = make_loop();
  CHECK((!loop->features().deferred_task_run || loop->features().single_issuer));
}

}  // namespace lockstep::io
