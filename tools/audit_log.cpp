#include "tools/audit_log.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <span>
#include <utility>

#include "tools/audit_file.h"

namespace lockstep::tools {

using nlohmann::json;
using repl::AuditFrame;
using repl::FrameKind;
using repl::PeerIndex;

AuditLog::AuditLog(io::Loop& loop, std::string path, Names names, Send send)
    : loop_(loop),
      path_(std::move(path)),
      names_(std::move(names)),
      send_(std::move(send)),
      newest_of_peers_(names_.peers.size()),
      patience_(loop, [this] { run_out_of_patience(); }),
      writers_(loop) {
  look_at_file();
  std::string nothing;
  const Status opened = prepare_file(nothing);
  if (!opened) complain(opened.error());
}

AuditLog::~AuditLog() = default;

// A command that works on the files of a node without a disk, as `create` does, writes to it as well.
void AuditLog::look_at_file() {
  struct stat found {};
  const uint64_t bytes = ::stat(path_.c_str(), &found) == 0 ? static_cast<uint64_t>(found.st_size) : 0;
  if (bytes == known_bytes_) return;
  known_bytes_ = bytes;
  own_.clear();
  for (const std::string& line : read_audit_lines(path_)) remember(line);
}

void AuditLog::remember(const std::string& line) {
  const json object = json::parse(line, nullptr, false);
  if (!object.is_object() || line.size() > repl::kMaximumAuditLineBytes) return;
  const auto stamp = object.find("stamp");
  const auto node = object.find("node");
  if (stamp == object.end() || !stamp->is_number_unsigned() || node == object.end() || !node->is_string()) return;
  if (object.value("resource", json()) != json(names_.resource)) return;
  const auto stamp_us = stamp->get<uint64_t>();
  if (*node == names_.node) {
    last_stamp_us_ = std::max(last_stamp_us_, stamp_us);
    own_.push_back({stamp_us, line});
    if (own_.size() > kOwnLines) own_.pop_front();
    return;
  }
  const auto found = std::find(names_.peers.begin(), names_.peers.end(), node->get<std::string>());
  if (found == names_.peers.end()) return;
  uint64_t& newest = newest_of_peers_[static_cast<size_t>(found - names_.peers.begin())];
  newest = std::max(newest, stamp_us);
}

void AuditLog::add(AuditRecord record, std::function<void()> ended) {
  record.stamp_us = last_stamp_us_ = next_audit_stamp(last_stamp_us_);
  record.resource = names_.resource;
  record.node = names_.node;
  std::string line = audit_line(record);
  own_.push_back({record.stamp_us, line});
  if (own_.size() > kOwnLines) own_.pop_front();
  for (size_t peer = 0; peer < names_.peers.size(); ++peer) {
    send_(static_cast<PeerIndex>(peer), AuditFrame{FrameKind::AuditLine, record.stamp_us, line});
  }
  queue(std::move(line), std::move(ended));
}

void AuditLog::link_came_up(PeerIndex peer) {
  send_(peer, AuditFrame{FrameKind::AuditWanted, newest_of_peers_[peer], {}});
}

void AuditLog::frame_arrived(PeerIndex peer, const AuditFrame& frame) {
  if (frame.kind == FrameKind::AuditWanted) {
    if (!writing_) look_at_file();
    for (const OwnLine& line : own_) {
      if (line.stamp_us > frame.stamp_us) send_(peer, AuditFrame{FrameKind::AuditLine, line.stamp_us, line.text});
    }
    return;
  }
  if (frame.stamp_us <= newest_of_peers_[peer]) return;
  std::optional<std::string> line = audit_line_of_peer(frame, names_.resource, names_.peers[peer]);
  if (!line) {
    complain({ErrorKind::Corrupt, 0, names_.peers[peer] + " sent a line for the audit log that is none"});
    return;
  }
  newest_of_peers_[peer] = frame.stamp_us;
  queue(std::move(*line), {});
}

void AuditLog::queue(std::string text, std::function<void()> ended) {
  if (waiting_.size() >= kWaitingLines) {
    complain({ErrorKind::Io, 0, "the audit log " + path_ + " takes no lines in time: some are lost"});
    if (ended) ended();
    return;
  }
  if (ended && !patience_.armed()) patience_.start_once_ms(kPatienceMs);
  waiting_.push_back({std::move(text), std::move(ended)});
  if (std::exchange(writing_, true)) return;
  loop_.spawn(write_lines());
}

// Who waits for a line is let go; the line is still written.
void AuditLog::run_out_of_patience() {
  std::vector<std::function<void()>> ended = std::exchange(being_written_, {});
  for (Line& line : waiting_) {
    if (line.ended) ended.push_back(std::exchange(line.ended, {}));
  }
  if (!ended.empty()) complain({ErrorKind::TimedOut, 0, "the audit log " + path_ + " is slow: nobody waits for it"});
  for (const auto& each : ended) {
    if (each) each();
  }
}

io::Task<void> AuditLog::write_lines() {
  const io::GatePass pass(writers_);
  while (!waiting_.empty()) {
    std::string text;
    while (!waiting_.empty()) {
      text += waiting_.front().text + "\n";
      if (waiting_.front().ended) being_written_.push_back(std::move(waiting_.front().ended));
      waiting_.pop_front();
    }
    Status status = prepare_file(text);
    if (status) {
      const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size());
      status = co_await file_->write(bytes, file_->size_bytes(), true);
      is_torn_ = !status;
    }
    if (!status) complain(status.error());
    if (status && std::exchange(complained_, false)) spdlog::info("{}: the audit log is written again", path_);
    if (file_ && file_->refresh_size()) known_bytes_ = file_->size_bytes();
    for (const auto& each : std::exchange(being_written_, {})) each();
  }
  patience_.cancel();
  writing_ = false;
}

// Not full, and still what has the path: operators move logs away.
bool AuditLog::is_usable() const {
  struct stat held {};
  struct stat named {};
  if (!file_ || ::fstat(file_->fd(), &held) != 0 || ::stat(path_.c_str(), &named) != 0) return false;
  return held.st_ino == named.st_ino && held.st_dev == named.st_dev &&
         static_cast<uint64_t>(held.st_size) < kAuditFileBytes;
}

// The file stays open: to open one may take long just when its disk is about to fail, and this is the loop's thread.
Status AuditLog::prepare_file(std::string& text) {
  if (!is_usable()) {
    file_.reset();
    Result<AuditFile> opened = open_audit_file(path_);
    if (!opened) return std::move(opened).error();
    is_torn_ = !opened->ends_well;
    // The loop's file has a descriptor of its own, which must append as well.
    auto own = io::File::open(loop_, path_, {io::FileMode::ReadWrite, io::FileCaching::Buffered});
    ::close(opened->fd);
    if (!own) return std::move(own).error();
    if (::fcntl((*own)->fd(), F_SETFL, O_APPEND) != 0) return system_error("cannot append to " + path_, errno);
    file_ = std::move(*own);
  }
  if (is_torn_) text.insert(text.begin(), '\n');  // GCC 12 calls insert(0, "\n") an overlap at -O2
  return {};
}

void AuditLog::complain(const Error& error) {
  if (std::exchange(complained_, true)) return;
  spdlog::error("{}: {} (the audit log is not complete; replication goes on)", names_.resource, error.message);
}

io::Task<void> AuditLog::close() {
  for (uint64_t waited_ms = 0; writing_ && waited_ms < kPatienceMs; waited_ms += 5) {
    const bool goes_on = co_await loop_.sleep_ms(5);
    if (!goes_on) break;
  }
  run_out_of_patience();
}

}  // namespace lockstep::tools
