#include "tools/handlers.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "tools/child_output.h"

namespace lockstep::tools {
Handlers::Handlers(io::Loop& loop, std::string resource, HandlersConfiguration configuration)
    : loop_(loop),
      resource_(std::move(resource)),
      configuration_(std::move(configuration)),
      gate_(loop),
      close_timer_(loop, [this] {
        waiting_.clear();
        for (io::ChildProcess* child : children_) {
          if (child != nullptr) child->kill();
        }
      }) {}

Handlers::~Handlers() = default;

void Handlers::run(HandlerEvent event, std::string about, std::vector<std::string> environment,
                   std::function<void(bool)> ended) {
  if (!has(event)) return;
  Job job{event, std::move(about), std::move(environment), std::move(ended)};
  const auto same = std::find_if(waiting_.begin(), waiting_.end(), [&job](const Job& other) {
    return other.event == job.event && other.about == job.about && !other.ended && !job.ended;
  });
  if (same != waiting_.end()) {  // one that has not started yet tells the newer state
    same->environment = std::move(job.environment);
    return;
  }
  if (waiting_.size() >= kWaiting && !job.ended) {
    spdlog::error("{}: handler {} is left out: {} others wait already", resource_, name_of(event), waiting_.size());
    return;
  }
  waiting_.push_back(std::move(job));
  start_what_may();
}

void Handlers::start_what_may() {
  for (auto job = waiting_.begin(); job != waiting_.end() && running_ < kAtOnce;) {
    bool& runs = runs_[static_cast<size_t>(job->event)];
    if (runs) {
      ++job;
      continue;
    }
    runs = true;
    ++running_;
    Job next = std::move(*job);
    job = waiting_.erase(job);
    gate_.enter();
    loop_.spawn(run_job(std::move(next)));
  }
}

io::Task<void> Handlers::run_job(Job job) {
  const auto index = static_cast<size_t>(job.event);
  io::ChildSpec spec;
  spec.arguments = io::split_words(configuration_.command_of(job.event));
  spec.environment = job.environment;
  spec.deadline_ms = configuration_.timeout_ms;
  bool well = false;
  auto started = io::ChildProcess::start(loop_, spec);
  if (!started) {
    spdlog::error("{}: handler {}: {}", resource_, name_of(job.event), started.error().message);
  } else {
    const std::unique_ptr<io::ChildProcess> child = std::move(*started);
    children_[index] = child.get();
    const io::ChildEnd end = co_await child->ended();
    children_[index] = nullptr;
    well = judge(job, end);
  }
  runs_[index] = false;
  --running_;
  if (!closing_ && job.ended) job.ended(well);
  start_what_may();
  gate_.leave();
}

bool Handlers::judge(const Job& job, const io::ChildEnd& end) const {
  log_child_output(resource_, "handler " + std::string(name_of(job.event)), end.output);
  const std::string what = std::string(name_of(job.event)) + job.about;
  if (end.timed_out) {
    spdlog::error("{}: handler {} had no end within {} ms and was killed", resource_, what, configuration_.timeout_ms);
  } else if (end.exit_code != 0) {
    spdlog::error("{}: handler {} failed: exit status {}", resource_, what, end.exit_code);
  } else {
    spdlog::info("{}: handler {} has ended", resource_, what);
  }
  return !end.timed_out && end.exit_code == 0;
}

io::Task<void> Handlers::close() {
  closing_ = true;
  close_timer_.start_once_ms(kCloseTimeoutMs);
  co_await gate_.emptied();
  close_timer_.cancel();
}

}  // namespace lockstep::tools
