#include "tools/fence_command.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "tools/child_output.h"

namespace lockstep::tools {
namespace {

using repl::ArbiterQuestion;
using repl::ArbiterVerdict;

const char* name_of(ArbiterQuestion question) {
  switch (question) {
    case ArbiterQuestion::FencePeers:
      return "fence-peer";
    case ArbiterQuestion::Promote:
      return "promote";
    case ArbiterQuestion::PeersInSync:
      return "unfence-peer";
  }
  return "";
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

}  // namespace

FenceCommand::FenceCommand(io::Loop& loop, FenceCommandOptions options)
    : loop_(loop), options_(std::move(options)), running_(loop) {}

FenceCommand::~FenceCommand() = default;

void FenceCommand::ask(repl::ArbiterRequest request, std::function<void(ArbiterVerdict)> answered) {
  if (closed_) return;
  next_ = Question{std::move(request), std::move(answered)};
  if (child_) child_->kill();
  if (running_.inside() == 0) loop_.spawn(run_questions());
}

io::Task<void> FenceCommand::close() {
  closed_ = true;
  next_.reset();
  if (child_) child_->kill();
  co_await running_.emptied();
}

io::Task<void> FenceCommand::run_questions() {
  const io::GatePass pass(running_);
  while (next_ && !closed_) {
    const Question question = std::move(*next_);
    next_.reset();
    io::ChildSpec spec;
    spec.arguments = options_.command;
    spec.arguments.emplace_back(name_of(question.request.question));
    spec.arguments.push_back(options_.resource);
    spec.environment = environment_of(options_, question.request);
    spec.deadline_ms = options_.deadline_ms;
    ArbiterVerdict verdict = ArbiterVerdict::Unclear;
    auto started = io::ChildProcess::start(loop_, spec);
    if (!started) {
      spdlog::error("{}: fence-command: {}", options_.resource, started.error().message);
    } else {
      child_ = std::move(*started);
      const io::ChildEnd end = co_await child_->ended();
      child_.reset();
      if (!closed_ && !next_) verdict = judge(question.request, end);
    }
    // Of one that another has taken the place of, nobody wants to hear.
    if (!closed_ && !next_) question.answered(verdict);
  }
}

ArbiterVerdict FenceCommand::judge(const repl::ArbiterRequest& request, const io::ChildEnd& end) const {
  const ArbiterVerdict verdict = verdict_of(request.question, end.exit_code, request.disk_state);
  const std::string what = std::string(name_of(request.question)) + " of " + joined(request.peers);
  log_child_output(options_.resource, "fence-command", end.output);
  if (end.timed_out) {
    spdlog::error("{}: fence-command {} had no end within {} s and was killed", options_.resource, what,
                  options_.deadline_ms / 1000);
  } else if (verdict == ArbiterVerdict::Unclear) {
    spdlog::error("{}: fence-command {} gave no answer: exit status {}", options_.resource, what, end.exit_code);
  } else {
    spdlog::info("{}: fence-command {}: {} (exit status {})", options_.resource, what,
                 verdict == ArbiterVerdict::Granted ? "granted" : "denied", end.exit_code);
  }
  return verdict;
}

// DRBD's numbers for its fence-peer handler, and 0 where nobody is fenced.
ArbiterVerdict FenceCommand::verdict_of(ArbiterQuestion question, int exit_code, repl::DiskState own_disk) {
  constexpr int kPeerInconsistent = 3;
  constexpr int kPeerOutdated = 4;
  constexpr int kPeerUnreachable = 5;
  constexpr int kPeerIsPrimary = 6;
  constexpr int kPeerPoweredOff = 7;
  if (exit_code == kPeerIsPrimary) return ArbiterVerdict::Denied;
  if (question == ArbiterQuestion::PeersInSync) {
    return exit_code == 0 ? ArbiterVerdict::Granted : ArbiterVerdict::Unclear;
  }
  switch (exit_code) {
    case kPeerInconsistent:
    case kPeerOutdated:
    case kPeerPoweredOff:
      return ArbiterVerdict::Granted;
    case kPeerUnreachable:
      return own_disk == repl::DiskState::UpToDate ? ArbiterVerdict::Granted : ArbiterVerdict::Unclear;
    default:
      return ArbiterVerdict::Unclear;
  }
}

std::vector<std::string> FenceCommand::environment_of(const FenceCommandOptions& options,
                                                      const repl::ArbiterRequest& request) {
  const bool in_sync = request.question == ArbiterQuestion::PeersInSync;
  const repl::Generation& current = request.generations.current;
  std::vector<std::string> history;
  if (in_sync && request.generation != current) history.push_back(to_string(current));
  for (const repl::Generation& generation : request.generations.history) {
    if (!generation.is_zero()) history.push_back(to_string(generation));
  }
  if (!request.generations.reserved.is_zero()) history.push_back(to_string(request.generations.reserved));
  std::vector<std::string> list{
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      "LOCKSTEP_RESOURCE=" + options.resource,
      "LOCKSTEP_NODE=" + options.node,
      "LOCKSTEP_NODES=" + joined(options.node_names),
      "LOCKSTEP_PEERS=" + joined(request.peers),
      "LOCKSTEP_ROLE=" + std::string(to_string(request.role)),
      "LOCKSTEP_DISK_STATE=" + std::string(to_string(request.disk_state)),
      "LOCKSTEP_GENERATION=" + to_string(in_sync ? request.generation : current),
      "LOCKSTEP_HISTORY=" + joined(history),
  };
  if (!in_sync) {
    list.push_back("LOCKSTEP_NEXT_GENERATION=" + to_string(request.generation));
    list.push_back("LOCKSTEP_BEHIND=" + joined(request.behind));
  }
  return list;
}

}  // namespace lockstep::tools
