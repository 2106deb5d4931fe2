// The exports of this server, by name, and who uses them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/block_backend.h"
#include "io/loop.h"
#include "io/signal.h"
#include "io/task.h"
#include "nbd-server/negotiation.h"

namespace lockstep::nbd {

class Session;

// Of requests that succeeded, since the daemon started.
struct ExportStatistics {
  uint64_t reads = 0;
  uint64_t writes = 0;  // WRITE, TRIM and WRITE_ZEROES
  uint64_t flushes = 0;
  uint64_t read_bytes = 0;
  uint64_t written_bytes = 0;  // of WRITE
};

// Open with a backend, or refused with a message: what GO and INFO are then answered with. Refused at first.
class Export {
 public:
  // The loop must outlive the export, and the export every session that joined it.
  Export(io::Loop& loop, std::string name, std::string description);
  ~Export();
  Export(const Export&) = delete;
  Export& operator=(const Export&) = delete;

  const std::string& name() const { return name_; }

  // New clients are served from `backend`, which must outlive their sessions: refuse(), then close_sessions(), and
  // only then may it go. Its geometry is read for each new client.
  void open(io::BlockBackend& backend);
  // New clients are refused; sessions that exist go on.
  void refuse(std::string message);
  bool is_open() const { return backend_ != nullptr; }

  void set_read_only(bool read_only) { read_only_ = read_only; }

  // Sessions in transmission.
  size_t client_count() const { return sessions_.size(); }
  // Refuses new clients, if refuse() did not already; requests that arrive from now on are answered with ESHUTDOWN,
  // those in flight are finished and answered; then the sessions end. Ends when the last has.
  io::Task<void> close_sessions();

  const ExportStatistics& statistics() const { return statistics_; }
  // Requests in the backend, of all sessions.
  uint64_t in_flight() const { return in_flight_; }

  ExportOffer offer() const;

 private:
  friend class Session;
  // By a session that enters and leaves transmission. The backend, which is there.
  io::BlockBackend& join(Session& session);
  void leave(Session& session);

  io::Loop& loop_;
  std::string name_;
  std::string description_;
  bool read_only_ = false;
  io::BlockBackend* backend_ = nullptr;
  std::string refusal_;
  std::vector<Session*> sessions_;
  io::Signal session_left_;
  ExportStatistics statistics_;
  uint64_t in_flight_ = 0;
};

class ExportTable final : public ExportDirectory {
 public:
  // The loop must outlive the table.
  explicit ExportTable(io::Loop& loop) : loop_(loop) {}

  // The first export is the default export: the empty name means it, too. `name` must be valid_string(), not empty,
  // and new. The reference stays good as long as the table.
  Export& add(std::string name, std::string description = {});
  Export* find_export(std::string_view name);
  const std::vector<std::unique_ptr<Export>>& exports() const { return exports_; }

  std::vector<ExportOffer> list() const override;
  std::optional<ExportOffer> find(std::string_view name) const override;

 private:
  io::Loop& loop_;
  std::vector<std::unique_ptr<Export>> exports_;
};

}  // namespace lockstep::nbd
