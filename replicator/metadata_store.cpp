#include "replicator/metadata_store.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "io/base/check.h"
#include "io/base/units.h"

namespace lockstep::repl {
namespace {

PersistId id_of(const auto& persist) {
  return std::visit([](const auto& kind) { return kind.id; }, persist);
}

std::string joined(std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text.empty() ? "none" : text;
}

}  // namespace

// After a failure persists are answered from the run queue, never from inside enqueue().
class MetadataStore::FailureNotice final : public io::Runnable {
 public:
  explicit FailureNotice(MetadataStore& store) : store_(store) {}
  void run() noexcept override { store_.fail_queue(); }

 private:
  MetadataStore& store_;
};

MetadataStore::MetadataStore(io::Loop& loop)
    : loop_(loop),
      memory_(static_cast<uint8_t*>(std::aligned_alloc(kMetadataUnitBytes, kBatchUnits * kMetadataUnitBytes)),
              &std::free),
      failure_notice_(std::make_unique<FailureNotice>(*this)) {
  LOCKSTEP_CHECK(memory_ != nullptr);
}

MetadataStore::~MetadataStore() = default;

Result<std::unique_ptr<MetadataStore>> MetadataStore::open(io::Loop& loop, const std::string& path,
                                                           const MetadataExpectation& expectation) {
  auto file = io::File::open(loop, path, {.exclusive_device = true});
  if (!file) {
    Error error = file.error();
    if (error.kind == ErrorKind::NotFound) {
      error.message = "there is no metadata at " + path + ": run 'lockstep create " + expectation.resource_name + "'";
    }
    return error;
  }
  std::unique_ptr<MetadataStore> store(new MetadataStore(loop));
  store->file_ = std::move(*file);
  if (Status status = store->file_->lock_exclusive(); !status) return status.error();
  if (store->file_->offset_alignment_bytes() > kMetadataUnitBytes ||
      store->file_->memory_alignment_bytes() > kMetadataUnitBytes) {
    return Error{ErrorKind::Unsupported, 0, "the disk below " + path + " has blocks larger than 4096 bytes"};
  }
  if (Status status = store->load(expectation); !status) return status.error();
  return store;
}

Status MetadataStore::load(const MetadataExpectation& expectation) {
  const std::string& path = file_->path();
  if (file_->size_bytes() < kSuperblockCopies * kMetadataUnitBytes) {
    return Error{ErrorKind::Invalid, 0,
                 path +
                     " holds no Lockstep metadata: it is too short; correct 'metadata' in the configuration, or make "
                     "it with 'lockstep create'"};
  }
  if (Status status = file_->read_now(units(kSuperblockCopies), 0); !status) return status;
  const std::span<const uint8_t> copies = units(kSuperblockCopies);
  auto choice =
      choose_superblock(copies.first<kMetadataUnitBytes>(), copies.subspan<kMetadataUnitBytes, kMetadataUnitBytes>());
  if (const auto* fault = std::get_if<SuperblockChoiceFault>(&choice)) return superblock_error(path, *fault);
  superblock_ = std::move(std::get<SuperblockChoice>(choice).superblock);
  if (Status status = check_identity(expectation); !status) return status;
  if (file_->size_bytes() < metadata_size_bytes(superblock_.layout, superblock_.identity.peer_count)) {
    return Error{
        ErrorKind::Corrupt, 0,
        "the metadata in " + path +
            " is cut off: the file is too short; if a peer has the data, make it anew with 'lockstep create --force'"};
  }
  if (!std::get<SuperblockChoice>(choice).copies_agree) {
    // A crash came between the two writings. Both must be good before one is written again.
    encode_superblock(superblock_, units(1).first<kMetadataUnitBytes>());
    for (size_t copy = 0; copy < kSuperblockCopies; ++copy) {
      if (Status status = file_->write_now(units(1), copy * kMetadataUnitBytes); !status) return status;
      if (Status status = file_->data_sync_now(); !status) return status;
    }
  }
  static_assert(kActivityLogRecords <= kBatchUnits);
  if (Status status = file_->read_now(units(kActivityLogRecords), superblock_.layout.activity_log_offset_bytes);
      !status) {
    return status;
  }
  ActivityLogRecovery recovery =
      recover_activity_log(units(kActivityLogRecords), superblock_.identity.activity_log_slots,
                           divide_up(superblock_.identity.size_bytes, kExtentBytes));
  slots_ = std::move(recovery.slots);
  next_record_ = recovery.next;
  ring_damaged_ = !recovery.valid;
  return {};
}

Status MetadataStore::check_identity(const MetadataExpectation& expectation) const {
  const std::string in = "the metadata in " + file_->path();
  const auto other = [&](const char* what, const std::string& found, const std::string& wanted) {
    return Error{ErrorKind::Invalid, 0,
                 in + " has " + what + " " + found + ", the configuration says " + wanted +
                     ": correct the configuration, or give this node another metadata file"};
  };
  if (superblock_.identity.resource_id != resource_id_of(expectation.resource_name) ||
      superblock_.resource_name != expectation.resource_name) {
    return other("resource", superblock_.resource_name, expectation.resource_name);
  }
  if (superblock_.node_name != expectation.node_name) {
    return other("node", superblock_.node_name, expectation.node_name);
  }
  if (expectation.size_bytes != 0 && superblock_.identity.size_bytes != expectation.size_bytes) {
    return other("size", std::to_string(superblock_.identity.size_bytes), std::to_string(expectation.size_bytes));
  }
  const std::string found = joined(superblock_.peer_names);
  const std::string wanted = joined(expectation.peer_names);
  if (found != wanted) return other("peers", found, wanted);
  return {};
}

Status MetadataStore::load_bitmaps(const PageLoader& load) {
  const MetadataLayout& layout = superblock_.layout;
  std::array<uint64_t, kWordsPerBitmapPage> words{};
  for (PeerIndex peer = 0; peer < superblock_.identity.peer_count; ++peer) {
    for (uint32_t first = 0; first < layout.pages_per_bitmap; first += kBatchUnits) {
      const uint32_t count = std::min(static_cast<uint32_t>(kBatchUnits), layout.pages_per_bitmap - first);
      if (Status status = file_->read_now(units(count), layout.page_offset_bytes(peer, first)); !status) return status;
      for (uint32_t i = 0; i < count; ++i) {
        const std::span<const uint8_t> unit = units(count).subspan(i * kMetadataUnitBytes);
        const BitmapPageName name{superblock_.identity.resource_id, peer, first + i};
        if (!decode_bitmap_page(name, unit.first<kMetadataUnitBytes>(), words)) {
          words.fill(UINT64_MAX);
          ++damaged_pages_;
        }
        load(peer, first + i, words);
      }
    }
  }
  return {};
}

void MetadataStore::enqueue(Persist persist) {
  LOCKSTEP_CHECK(owner_ != nullptr);
  queue_.push(std::move(persist));
  if (busy_) return;
  busy_ = true;
  step_ = 0;
  go_on();
}

void MetadataStore::go_on() {
  if (failed_errno_ != 0) {
    if (!failure_notice_->listed()) loop_.defer(*failure_notice_);
    return;
  }
  while (!std::visit([this](const auto& kind) { return start_step(kind); }, queue_.front())) {
    const PersistId id = id_of(queue_.pop());
    step_ = 0;
    owner_->persisted(id, 0);
    if (queue_.empty()) {
      busy_ = false;
      return;
    }
    if (failed_errno_ != 0) return;
  }
}

void MetadataStore::ended(int error_errno) noexcept {
  ++step_;
  if (error_errno != 0) {
    // What is on disk is unknown now, and a later success would prove nothing about this write.
    failed_errno_ = error_errno;
    fail_queue();
    return;
  }
  go_on();
}

void MetadataStore::fail_queue() noexcept {
  while (!queue_.empty()) {
    const PersistId id = id_of(queue_.pop());
    owner_->persisted(id, failed_errno_);
  }
  busy_ = false;
}

void MetadataStore::write(size_t unit_count, uint64_t offset_bytes) {
  file_->start_write(*this, units(unit_count), offset_bytes, true);
}

// Both copies, one after the other: whatever happens, one of them is whole, and once this persist has ended no damage
// to a single copy brings back an older state.
bool MetadataStore::start_step(const PersistSuperblock& persist) {
  if (step_ == kSuperblockCopies) return false;
  if (step_ == 0) {
    ++superblock_.sequence;
    superblock_.image = persist.image;
    encode_superblock(superblock_, units(1).first<kMetadataUnitBytes>());
  }
  write(1, step_ * kMetadataUnitBytes);
  return true;
}

void MetadataStore::write_new_ring() {
  encode_empty_ring(next_record_.number, activity_log_slot_count(), units(kActivityLogRecords));
  next_record_ = {next_record_.number + kActivityLogRecords, 0};
  std::fill(slots_.begin(), slots_.end(), kNoExtent);
  ring_damaged_ = false;
  write(kActivityLogRecords, superblock_.layout.activity_log_offset_bytes);
}

bool MetadataStore::start_step(const PersistActivityLog& persist) {
  if (record_written_) {
    record_written_ = false;
    return false;
  }
  if (ring_damaged_) {
    write_new_ring();
    return true;
  }
  const auto updates = std::span(persist.updates).first(persist.update_count);
  for (const ActivityLogUpdate& update : updates) {
    LOCKSTEP_CHECK(update.slot < slots_.size());
    slots_[update.slot] = update.extent;
  }
  encode_activity_log_record(next_record_, updates, slots_, units(1).first<kMetadataUnitBytes>());
  write(1, superblock_.layout.record_offset_bytes(next_record_.number));
  next_record_ = {next_record_.number + 1, 0};
  record_written_ = true;
  return true;
}

bool MetadataStore::start_step(const PersistActivityLogEmpty&) {
  if (step_ == 1) return false;
  if (ring_damaged_) {
    write_new_ring();
    return true;
  }
  encode_activity_log_empty(next_record_, activity_log_slot_count(), units(1).first<kMetadataUnitBytes>());
  std::fill(slots_.begin(), slots_.end(), kNoExtent);
  write(1, superblock_.layout.record_offset_bytes(next_record_.number));
  next_record_ = {next_record_.number + 1, 0};
  return true;
}

bool MetadataStore::start_step(const PersistBitmapPages& persist) {
  const auto done = static_cast<uint32_t>(step_ * kBatchUnits);
  if (done >= persist.page_count) return false;
  const uint32_t count = std::min(static_cast<uint32_t>(kBatchUnits), persist.page_count - done);
  write_pages(superblock_.layout, persist.peer, persist.first_page + done, count);
  return true;
}

void MetadataStore::write_pages(const MetadataLayout& layout, PeerIndex peer, uint32_t first_page, uint32_t count) {
  LOCKSTEP_CHECK(peer < superblock_.identity.peer_count && first_page + count <= layout.pages_per_bitmap);
  for (uint32_t i = 0; i < count; ++i) {
    const std::span<const uint64_t> words = owner_->bitmap_words(peer, first_page + i);
    LOCKSTEP_CHECK(words.size() == kWordsPerBitmapPage);
    encode_bitmap_page({superblock_.identity.resource_id, peer, first_page + i}, words.first<kWordsPerBitmapPage>(),
                       units(count).subspan(i * kMetadataUnitBytes).first<kMetadataUnitBytes>());
  }
  write(count, layout.page_offset_bytes(peer, first_page));
}

Status MetadataStore::prepare_size(uint64_t size_bytes) {
  const MetadataLayout grown = grown_layout(superblock_.layout, size_bytes, superblock_.identity.peer_count);
  const uint64_t needed = metadata_size_bytes(grown, superblock_.identity.peer_count);
  if (needed <= file_->size_bytes()) return {};
  const auto no_room = [&](int reason) {
    return Error{ErrorKind::Exhausted, reason,
                 "the metadata in " + file_->path() + " needs " + std::to_string(needed) + " bytes for that size"};
  };
  if (file_->is_block_device()) return no_room(ENOSPC);
  if (const int reason = ::posix_fallocate(file_->fd(), 0, static_cast<off_t>(needed)); reason != 0) {
    return no_room(reason);
  }
  if (Status status = file_->data_sync_now(); !status) return status;
  return file_->refresh_size();
}

// New pages first, where the present layout has none, or all of them at another place; the superblock makes them count.
// Until then the old size is the one that there is, and everything of it is where it was.
bool MetadataStore::start_step(const PersistSize& persist) {
  const MetadataLayout& old = superblock_.layout;
  const uint32_t peers = superblock_.identity.peer_count;
  if (step_ == 0) {
    grown_ = grown_layout(old, persist.size_bytes, peers);
    LOCKSTEP_CHECK(metadata_size_bytes(grown_, peers) <= file_->size_bytes());
  }
  const bool in_place = grown_.bitmap_offset_bytes == old.bitmap_offset_bytes;
  const uint32_t first = in_place ? old.pages_per_bitmap : 0;
  const auto batches = static_cast<size_t>(divide_up(grown_.pages_per_bitmap - first, kBatchUnits));
  if (step_ < batches * peers) {
    const auto from = first + static_cast<uint32_t>(step_ % batches * kBatchUnits);
    const uint32_t count = std::min(static_cast<uint32_t>(kBatchUnits), grown_.pages_per_bitmap - from);
    write_pages(grown_, static_cast<PeerIndex>(step_ / batches), from, count);
    return true;
  }
  const size_t copy = step_ - batches * peers;
  if (copy == kSuperblockCopies) {
    superblock_.layout = grown_;
    return false;
  }
  if (copy == 0) {
    ++superblock_.sequence;
    superblock_.image = persist.image;
  }
  superblock_.identity.size_bytes = persist.size_bytes;
  Superblock grown = superblock_;
  grown.layout = grown_;
  encode_superblock(grown, units(1).first<kMetadataUnitBytes>());
  write(1, copy * kMetadataUnitBytes);
  return true;
}

}  // namespace lockstep::repl
