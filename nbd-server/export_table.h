// The exports of this server, by name, and who uses them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/block_backend.h"
#include "io/loop.h"
#include "io/signal.h"
#include "io/task.h"
#include "nbd-server/negotiation.h"
#include "nbd-server/range_lock.h"

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

// Who a client is, as far as the server knows.
struct ClientIdentity {
  std::string host;                // its address; "local" for every client of this host
  bool unix_socket = false;        // the socket's permissions let it in
  bool encrypted = false;          // TLS
  std::vector<std::string> names;  // that it has proved with TLS
};
// "local" for a loopback address, so that one host has one name however it connects.
std::string client_host(const std::string& peer_host);

struct ExportOptions {
  bool read_only = false;
  // Clients of several hosts may write. Otherwise, while one host has a client, those of others are refused.
  bool shared = false;
  size_t maximum_clients = 64;
  // Names of which a client must have proved one with TLS; empty: everybody. A client on a unix socket needs none
  // unless it uses TLS.
  std::vector<std::string> allowed_names;
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

  // For clients that come later.
  void set_options(ExportOptions options) { options_ = std::move(options); }

  // Sessions in transmission.
  size_t client_count() const { return sessions_.size(); }
  // Refuses new clients, if refuse() did not already; requests that arrive from now on are answered with ESHUTDOWN,
  // those in flight are finished and answered; then the sessions end. Ends when the last has.
  io::Task<void> close_sessions();

  const ExportStatistics& statistics() const { return statistics_; }
  // Requests in the backend, of all sessions.
  uint64_t in_flight() const { return in_flight_; }

  ExportOffer offer_to(const ClientIdentity& client) const;

  // Whether a write of any session is in the backend that touches the range.
  bool writes_in_flight(uint64_t offset_bytes, uint64_t length_bytes) const;

 private:
  friend class Session;
  // By a session that enters and leaves transmission. The backend, which is there.
  io::BlockBackend& join(Session& session);
  void leave(Session& session);

  io::Loop& loop_;
  std::string name_;
  std::string description_;
  std::string why_not(const ClientIdentity& client) const;

  ExportOptions options_;
  io::BlockBackend* backend_ = nullptr;
  std::string refusal_;
  std::vector<Session*> sessions_;
  io::Signal session_left_;
  RangeLock range_lock_;
  ExportStatistics statistics_;
  uint64_t in_flight_ = 0;
};

class ExportTable {
 public:
  // The loop must outlive the table.
  explicit ExportTable(io::Loop& loop) : loop_(loop) {}

  // The first export is the default export: the empty name means it, too. `name` must be valid_string(), not empty,
  // and new. The reference stays good as long as the table.
  Export& add(std::string name, std::string description = {});
  Export* find_export(std::string_view name);
  const std::vector<std::unique_ptr<Export>>& exports() const { return exports_; }

  // Clients in their handshake are told so from now on.
  void begin_shutdown() { shutting_down_ = true; }
  bool shutting_down() const { return shutting_down_; }

 private:
  io::Loop& loop_;
  std::vector<std::unique_ptr<Export>> exports_;
  bool shutting_down_ = false;
};

// The table as one client may see it.
class ExportView final : public ExportDirectory {
 public:
  // The table must outlive the view.
  ExportView(ExportTable& table, ClientIdentity client) : table_(table), client_(std::move(client)) {}

  const ClientIdentity& client() const { return client_; }
  void proved_by_tls(std::vector<std::string> names) {
    client_.encrypted = true;
    client_.names = std::move(names);
  }

  std::vector<ExportOffer> list() const override;
  std::optional<ExportOffer> find(std::string_view name) const override;
  bool shutting_down() const override { return table_.shutting_down(); }

 private:
  ExportTable& table_;
  ClientIdentity client_;
};

}  // namespace lockstep::nbd
