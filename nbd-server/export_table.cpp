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
      session_left_(loop) {}

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

ExportOffer Export::offer() const {
  ExportOffer offer;
  offer.name = name_;
  offer.description = description_;
  offer.refused = !is_open();
  offer.refusal = refusal_;
  if (is_open()) {
    offer.limits = limits_of(backend_->geometry(), loop_.buffers());
    offer.limits.read_only = read_only_;
  }
  return offer;
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

std::vector<ExportOffer> ExportTable::list() const {
  std::vector<ExportOffer> offers;
  offers.reserve(exports_.size());
  for (const auto& entry : exports_) offers.push_back(entry->offer());
  return offers;
}

std::optional<ExportOffer> ExportTable::find(std::string_view name) const {
  if (name.empty() && !exports_.empty()) return exports_.front()->offer();
  for (const auto& entry : exports_) {
    if (entry->name() == name) return entry->offer();
  }
  return std::nullopt;
}

}  // namespace lockstep::nbd
