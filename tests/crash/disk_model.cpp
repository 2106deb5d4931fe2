#include "tests/crash/disk_model.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "io/base/check.h"

namespace lockstep::crash {
namespace {

constexpr size_t kAllStatesUpTo = 9;  // open sectors: 512 states

}  // namespace

void MetadataModel::started(const void* operation, const io::DiskRequest& request) {
  ++version_;
  switch (request.kind) {
    case io::DiskRequestKind::Write:
      LOCKSTEP_CHECK(request.offset_bytes % kSectorBytes == 0 && request.length_bytes % kSectorBytes == 0);
      pending_.push_back({operation,
                          request.offset_bytes,
                          {request.bytes.begin(), request.bytes.end()},
                          request.durable,
                          false,
                          nullptr});
      if (stable_.size() < request.offset_bytes + request.length_bytes) {
        stable_.resize(request.offset_bytes + request.length_bytes);
      }
      return;
    case io::DiskRequestKind::Sync:
      for (Pending& pending : pending_) {
        if (pending.ended) pending.sync = operation;
      }
      return;
    case io::DiskRequestKind::Zero:
      break;
  }
  LOCKSTEP_CHECK(false && "metadata is never zeroed in place");
}

void MetadataModel::make_stable(const Pending& pending) {
  std::copy(pending.bytes.begin(), pending.bytes.end(),
            stable_.begin() + static_cast<std::ptrdiff_t>(pending.offset_bytes));
}

void MetadataModel::ended(const void* operation, int error_errno) {
  LOCKSTEP_CHECK(error_errno == 0);
  ++version_;
  // What became stable was overwritten by nothing that is pending: metadata is written one after the other.
  std::vector<Pending> left;
  for (Pending& pending : pending_) {
    const bool written = pending.operation == operation && !pending.ended;
    if ((written && pending.durable) || pending.sync == operation) {
      make_stable(pending);
      continue;
    }
    if (written) {
      pending.ended = true;
      pending.operation = nullptr;
    }
    left.push_back(std::move(pending));
  }
  pending_ = std::move(left);
}

size_t MetadataModel::writes_under_way() const {
  return static_cast<size_t>(
      std::count_if(pending_.begin(), pending_.end(), [](const Pending& pending) { return !pending.ended; }));
}

std::vector<uint8_t> MetadataModel::newest() const {
  std::vector<uint8_t> bytes = stable_;
  for (const Pending& pending : pending_) {
    std::copy(pending.bytes.begin(), pending.bytes.end(),
              bytes.begin() + static_cast<std::ptrdiff_t>(pending.offset_bytes));
  }
  return bytes;
}

std::vector<MetadataModel::Sector> MetadataModel::open_sectors() const {
  std::vector<Sector> sectors;
  for (const Pending& pending : pending_) {
    for (size_t at = 0; at < pending.bytes.size(); at += kSectorBytes) {
      if (std::memcmp(pending.bytes.data() + at, stable_.data() + pending.offset_bytes + at, kSectorBytes) == 0) {
        continue;
      }
      sectors.push_back({pending.offset_bytes + at, std::span(pending.bytes).subspan(at, kSectorBytes)});
    }
  }
  return sectors;
}

std::vector<MetadataModel::State> MetadataModel::states(size_t open_sectors, size_t sample, std::mt19937_64& random) {
  std::vector<State> states;
  if (open_sectors <= kAllStatesUpTo && (size_t{1} << open_sectors) <= sample) {
    for (size_t bits = 0; bits < size_t{1} << open_sectors; ++bits) {
      State state(open_sectors);
      for (size_t i = 0; i < open_sectors; ++i) state[i] = (bits >> i & 1) != 0;
      states.push_back(std::move(state));
    }
    return states;
  }
  const size_t step = std::max<size_t>(1, open_sectors * 4 / sample);
  for (size_t cut = 0; cut <= open_sectors; cut += step) {
    State prefix(open_sectors), suffix(open_sectors);
    for (size_t i = 0; i < open_sectors; ++i) {
      prefix[i] = i < cut;
      suffix[i] = i >= cut;
    }
    states.push_back(std::move(prefix));
    states.push_back(std::move(suffix));
  }
  while (states.size() < sample) {
    State state(open_sectors);
    for (size_t i = 0; i < open_sectors; ++i) state[i] = random() % 2 != 0;
    states.push_back(std::move(state));
  }
  return states;
}

const DataModel::Sector& DataModel::sector(uint64_t number) const {
  static const Sector kNeverWritten;
  const auto found = sectors_.find(number);
  return found == sectors_.end() ? kNeverWritten : found->second;
}

std::vector<uint64_t> DataModel::take_touched() {
  return std::exchange(touched_, {});
}

void DataModel::started(const void* operation, const io::DiskRequest& request) {
  if (request.kind == io::DiskRequestKind::Sync) {
    for (auto& [id, earlier] : requests_) {
      if (earlier.ended) earlier.sync = operation;
    }
    return;
  }
  LOCKSTEP_CHECK(request.offset_bytes % kSectorBytes == 0 && request.length_bytes % kSectorBytes == 0);
  const uint64_t id = ++requests_started_;
  Request started{id,
                  request.offset_bytes / kSectorBytes,
                  request.length_bytes / kSectorBytes,
                  request.durable,
                  false,
                  false,
                  operation,
                  nullptr};
  for (uint64_t i = 0; i < started.sector_count; ++i) {
    uint64_t value = 0;
    if (request.kind == io::DiskRequestKind::Write) {
      std::memcpy(&value, request.bytes.data() + i * kSectorBytes, sizeof(value));
    }
    sectors_[started.first_sector + i].pending.emplace_back(id, value);
    touched_.push_back(started.first_sector + i);
  }
  requests_.emplace(id, started);
}

// It was written before the sync began, and the sync has ended: whatever was written to these sectors before it is
// gone.
void DataModel::make_stable(const Request& request) {
  for (uint64_t i = 0; i < request.sector_count; ++i) {
    Sector& sector = sectors_[request.first_sector + i];
    const auto own = std::find_if(sector.pending.begin(), sector.pending.end(),
                                  [&](const auto& pending) { return pending.first == request.id; });
    if (own == sector.pending.end()) continue;  // a later one became stable first
    sector.stable = own->second;
    sector.pending.erase(sector.pending.begin(), own + 1);
    touched_.push_back(request.first_sector + i);
  }
}

void DataModel::ended(const void* operation, int error_errno) {
  for (auto at = requests_.begin(); at != requests_.end();) {
    Request& request = at->second;
    const bool own = request.operation == operation && !request.ended;
    if (own && error_errno == EOPNOTSUPP) {  // nothing was done
      for (uint64_t i = 0; i < request.sector_count; ++i) {
        auto& pending = sectors_[request.first_sector + i].pending;
        std::erase_if(pending, [&](const auto& one) { return one.first == request.id; });
        touched_.push_back(request.first_sector + i);
      }
      at = requests_.erase(at);
      continue;
    }
    LOCKSTEP_CHECK(!own || error_errno == 0);
    if ((own && request.durable) || (request.sync == operation && error_errno == 0)) {
      make_stable(request);
      at = requests_.erase(at);
      continue;
    }
    if (own) {
      request.ended = true;
      request.operation = nullptr;
    }
    ++at;
  }
}

}  // namespace lockstep::crash
