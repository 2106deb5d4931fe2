#include "nbd-server/export_table.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "io/base/check.h"
#include "nbd-server/session.h"

namespace lockstep::nbd {
namespace {

ExportLimits limits_of(const io::BlockGeometry& geometry, const io::BufferPool& pool) {
  ExportLimits limits;
  limits.size_bytes = geometry.size_bytes;
  limits.minimum_block_bytes = geometry.minimum_block_bytes;
  LOCKSTEP_CHECK(std::has_single_bit(limits.minimum_block_bytes) && limits.minimum_block_bytes <= 65536);
  LOCKSTEP_CHECK(limits.size_bytes % limits.minimum_block_bytes == 0);
  limits.preferred_block_bytes =
      std::bit_ceil(std::max({geometry.preferred_block_bytes, limits.minimum_block_bytes, uint32_t{512}}));
  // One request must never need more than the pool can give.
  const uint64_t largest_buffer =
      std::min<uint64_t>(std::bit_floor(pool.arena_bytes() / 2), io::BufferPool::kLargestBytes);
  limits.maximum_payload_bytes =
      static_cast<uint32_t>(std::min<uint64_t>(geometry.maximum_payload_bytes, largest_buffer));
  LOCKSTEP_CHECK(limits.maximum_payload_bytes >= limits.preferred_block_bytes);
  return limits;
}

}  // namespace

Export::Export(io::Loop& loop, std::string name, std::string description)
    : loop_(loop),
      name_(std::move(name)),
      description_(std::move(description)),
      refusal_("the export is not open"),
      session_left_(loop),
      range_lock_(loop) {}

Export::~Export() {
  LOCKSTEP_CHECK(sessions_.empty());
}

void Export::open(io::BlockBackend& backend) {
  backend_ = &backend;
  refusal_.clear();
}

void Export::refuse(std::string message) {
  backend_ = nullptr;
  refusal_ = std::move(message);
}

io::Task<void> Export::close_sessions() {
  if (is_open()) refuse("the export is being closed");
  // A copy: a session may leave while another is told.
  const std::vector<Session*> sessions = sessions_;
  for (Session* session : sessions) session->begin_close();
  while (!sessions_.empty()) static_cast<void>(co_await session_left_.wait());
}

std::string Export::why_not(const ClientIdentity& client) const {
  if (!is_open()) return refusal_;
  const bool checks_names = !options_.allowed_names.empty() && (client.encrypted || !client.unix_socket);
  if (checks_names && std::find_first_of(client.names.begin(), client.names.end(), options_.allowed_names.begin(),
                                         options_.allowed_names.end()) == client.names.end()) {
    if (client.names.empty()) return "this export is for certain names, and the client has proved none with TLS";
    return "'" + client.names.front() + "' is not among the names that may use this export";
  }
  if (sessions_.size() >= options_.maximum_clients) {
    return "this export has " + std::to_string(sessions_.size()) + " clients, which is as many as it takes";
  }
  if (options_.shared || options_.read_only) return {};
  // Two hosts that both believe to have the device would overwrite each other's file system.
  for (const Session* session : sessions_) {
    const ClientIdentity& other = session->client();
    if (other.host == client.host) continue;
    return "this export is in use by " + (other.host == "local" ? "a client on its own host" : other.host) +
           ": end that client first, or configure the export as shared";
  }
  return {};
}

ExportOffer Export::offer_to(const ClientIdentity& client) const {
  ExportOffer offer;
  offer.name = name_;
  offer.description = description_;
  offer.tls_only = !options_.allowed_names.empty() && !client.unix_socket;
  offer.refusal = why_not(client);
  offer.refused = !offer.refusal.empty();
  if (is_open()) {
    offer.limits = limits_of(backend_->geometry(), loop_.buffers());
    offer.limits.read_only = options_.read_only;
    if (backend_->has_map(io::BlockMap::Allocation)) offer.contexts.add(MetaContext::Allocation);
    if (backend_->has_map(io::BlockMap::Dirty)) offer.contexts.add(MetaContext::Dirty);
  }
  return offer;
}

bool Export::writes_in_flight(uint64_t offset_bytes, uint64_t length_bytes) const {
  return std::any_of(sessions_.begin(), sessions_.end(),
                     [&](const Session* session) { return session->writes_in_flight(offset_bytes, length_bytes); });
}

io::BlockBackend& Export::join(Session& session) {
  LOCKSTEP_CHECK(is_open());
  sessions_.push_back(&session);
  return *backend_;
}

void Export::leave(Session& session) {
  std::erase(sessions_, &session);
  session_left_.notify_all();
}

Export& ExportTable::add(std::string name, std::string description) {
  LOCKSTEP_CHECK(!name.empty() && valid_string(name) && find_export(name) == nullptr);
  exports_.push_back(std::make_unique<Export>(loop_, std::move(name), std::move(description)));
  return *exports_.back();
}

Export* ExportTable::find_export(std::string_view name) {
  if (name.empty()) return exports_.empty() ? nullptr : exports_.front().get();
  for (const auto& entry : exports_) {
    if (entry->name() == name) return entry.get();
  }
  return nullptr;
}

std::string client_host(const std::string& peer_host) {
  const bool loopback = peer_host.starts_with("127.") || peer_host == "::1" || peer_host.starts_with("::ffff:127.");
  return loopback ? "local" : peer_host;
}

std::vector<ExportOffer> ExportView::list() const {
  std::vector<ExportOffer> offers;
  for (const auto& entry : table_.exports()) offers.push_back(entry->offer_to(client_));
  return offers;
}

std::optional<ExportOffer> ExportView::find(std::string_view name) const {
  const Export* found = table_.find_export(name);
  if (found == nullptr) return std::nullopt;
  return found->offer_to(client_);
}

}  // namespace lockstep::nbd
