// The arbiter that an operator's program is: the key fence-command. docs/arbiter.md is its contract.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "io/child_process.h"
#include "io/loop.h"
#include "io/signal.h"
#include "replicator/arbiter.h"

namespace lockstep::tools {

struct FenceCommandOptions {
  std::string resource;
  std::string node;
  std::vector<std::string> node_names;  // of the resource, all of them
  std::vector<std::string> command;     // words, the program first
  uint64_t deadline_ms = 30'000;
};

class FenceCommand final : public repl::Arbiter {
 public:
  FenceCommand(io::Loop& loop, FenceCommandOptions options);
  ~FenceCommand() override;
  void ask(repl::ArbiterRequest request, std::function<void(repl::ArbiterVerdict)> answered) override;
  // Ends what runs; nothing is answered any more. Before the loop stops.
  io::Task<void> close();

  // What the program's exit status says. Public for tests.
  static repl::ArbiterVerdict verdict_of(repl::ArbiterQuestion question, int exit_code, repl::DiskState own_disk);
  static std::vector<std::string> environment_of(const FenceCommandOptions& options,
                                                 const repl::ArbiterRequest& request);

 private:
  struct Question {
    repl::ArbiterRequest request;
    std::function<void(repl::ArbiterVerdict)> answered;
  };
  io::Task<void> run_questions();
  repl::ArbiterVerdict judge(const repl::ArbiterRequest& request, const io::ChildEnd& end) const;

  io::Loop& loop_;
  const FenceCommandOptions options_;
  std::optional<Question> next_;
  std::unique_ptr<io::ChildProcess> child_;
  io::Gate running_;
  bool closed_ = false;
};

}  // namespace lockstep::tools
