// The audit log of a running node: what its operators did, and what those of other nodes did, each line on stable
// storage. Nothing of replication waits for it: a disk that is full or slow costs lines, and is said in the daemon's
// log. On the loop's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "io/file.h"
#include "io/loop.h"
#include "io/signal.h"
#include "io/task.h"
#include "io/timer.h"
#include "replicator/audit_frame.h"
#include "replicator/core/types.h"
#include "tools/audit_record.h"

namespace lockstep::tools {

class AuditLog {
 public:
  struct Names {
    std::string resource;
    std::string node;
    std::vector<std::string> peers;  // by index
  };
  using Send = std::function<void(repl::PeerIndex, const repl::AuditFrame&)>;

  // Reads what is there (blocking). `send` gives a frame to a peer's link, if there is one.
  AuditLog(io::Loop& loop, std::string path, Names names, Send send);
  ~AuditLog();
  AuditLog(const AuditLog&) = delete;
  AuditLog& operator=(const AuditLog&) = delete;

  const std::string& path() const { return path_; }

  // Stamps the record, tells the peers, and writes it. `ended`: once, from the loop: when it is stable, or could not
  // be written, or after kPatienceMs.
  static constexpr uint64_t kPatienceMs = 1000;
  void add(AuditRecord record, std::function<void()> ended);

  void link_came_up(repl::PeerIndex peer);
  void frame_arrived(repl::PeerIndex peer, const repl::AuditFrame& frame);

  // Waits for what is under way, within kPatienceMs.
  io::Task<void> close();

 private:
  static constexpr size_t kOwnLines = 64;  // that a peer can ask for
  static constexpr size_t kWaitingLines = 256;

  struct Line {
    std::string text;
    std::function<void()> ended;
  };
  struct OwnLine {
    uint64_t stamp_us = 0;
    std::string text;
  };
  void look_at_file();
  void remember(const std::string& line);
  void queue(std::string text, std::function<void()> ended);
  io::Task<void> write_lines();
  Status prepare_file(std::string& text);
  bool is_usable() const;
  void complain(const Error& error);
  void run_out_of_patience();

  io::Loop& loop_;
  const std::string path_;
  const Names names_;
  const Send send_;
  std::deque<OwnLine> own_;
  std::vector<uint64_t> newest_of_peers_;
  uint64_t last_stamp_us_ = 0;
  uint64_t known_bytes_ = 0;  // of the file, as far as own_ knows it

  std::unique_ptr<io::File> file_;
  bool is_torn_ = false;  // its last line may have no end
  std::deque<Line> waiting_;
  std::vector<std::function<void()>> being_written_;
  bool writing_ = false;
  bool complained_ = false;
  io::Timer patience_;
  io::Gate writers_;  // lives until the last line is written, or the loop ends
};

}  // namespace lockstep::tools
