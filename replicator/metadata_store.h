// A node's metadata while its daemon runs: read once at the start, then written in strict order.
//
// On the loop's thread. The file is locked as long as the store lives.
#pragma once

#include <array>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "io/base/result.h"
#include "io/file.h"
#include "io/loop.h"
#include "replicator/core/action.h"
#include "replicator/core/metadata_image.h"
#include "replicator/metadata_format.h"
#include "replicator/metadata_setup.h"
#include "replicator/ring_queue.h"

namespace lockstep::repl {

// Whose metadata it must be.
struct MetadataExpectation {
  std::string resource_name;
  std::string node_name;
  std::vector<std::string> peer_names;  // in any order: the metadata's counts
  uint64_t size_bytes = 0;              // 0: whatever it is
};

class MetadataOwner {
 public:
  virtual ~MetadataOwner() = default;
  // Once for each persist, in their order, from the loop. After an error, every later persist fails with it.
  virtual void persisted(PersistId id, int error_errno) noexcept = 0;
  // The words of a bitmap page as they are now; valid until the call returns to the store's caller.
  virtual std::span<const uint64_t> bitmap_words(PeerIndex peer, uint32_t page) = 0;
};

class MetadataStore : private io::FileOperation {
 public:
  // Locks and checks the file; blocking. Every error names the file and what to do: NotFound (nothing there), Busy,
  // Invalid (no metadata, or that of another resource, node or size), Corrupt, Unsupported (another version).
  // A crash's traces are mended first: the two superblocks are the same afterwards.
  static Result<std::unique_ptr<MetadataStore>> open(io::Loop& loop, const std::string& path,
                                                     const MetadataExpectation& expectation);
  // No persist may be under way.
  ~MetadataStore() override;

  const SuperblockImage& superblock() const { return superblock_.image; }
  // Their places number the bitmaps: PeerIndex.
  const std::vector<std::string>& peer_names() const { return superblock_.peer_names; }
  uint32_t activity_log_slot_count() const { return superblock_.identity.activity_log_slots; }
  // As on stable storage.
  std::span<const uint32_t> activity_log() const { return slots_; }
  bool activity_log_valid() const { return !ring_damaged_; }
  // Reads all bitmaps, blocking, a MiB at a time. A damaged page is given as all ones.
  using PageLoader = std::function<void(PeerIndex peer, uint32_t page, std::span<const uint64_t> words)>;
  Status load_bitmaps(const PageLoader& load);
  uint32_t damaged_pages() const { return damaged_pages_; }
  const std::string& path() const { return file_->path(); }

  // Before the first persist.
  void set_owner(MetadataOwner& owner) { owner_ = &owner; }
  // Durable one after the other, in the order of these calls.
  void persist(const PersistSuperblock& action) { enqueue(action); }
  void persist(const PersistActivityLog& action) { enqueue(action); }
  void persist(const PersistBitmapPages& action) { enqueue(action); }
  void persist(const PersistActivityLogEmpty& action) { enqueue(action); }
  // Room for it must have been made: prepare_size().
  void persist(const PersistSize& action) { enqueue(action); }
  // Makes room for the bitmaps of a device of this size; blocking, and short. Exhausted when there is none.
  Status prepare_size(uint64_t size_bytes);
  uint64_t size_bytes() const { return superblock_.identity.size_bytes; }
  bool idle() const { return !busy_ && queue_.empty(); }

 private:
  using Persist =
      std::variant<PersistSuperblock, PersistActivityLog, PersistBitmapPages, PersistActivityLogEmpty, PersistSize>;
  static constexpr size_t kBatchUnits = 256;

  explicit MetadataStore(io::Loop& loop);
  Status load(const MetadataExpectation& expectation);
  Status check_identity(const MetadataExpectation& expectation) const;
  std::span<uint8_t> units(size_t count) { return {memory_.get(), count * kMetadataUnitBytes}; }

  void enqueue(Persist persist);
  // Starts the next write of the persist in front, or ends it.
  void go_on();
  bool start_step(const PersistSuperblock& persist);
  bool start_step(const PersistActivityLog& persist);
  bool start_step(const PersistBitmapPages& persist);
  bool start_step(const PersistActivityLogEmpty& persist);
  bool start_step(const PersistSize& persist);
  void write_pages(const MetadataLayout& layout, PeerIndex peer, uint32_t first_page, uint32_t count);
  void write(size_t unit_count, uint64_t offset_bytes);
  void write_new_ring();
  void ended(int error_errno) noexcept override;
  // Answers a persist from the run queue where there is nothing to write any more.
  class FailureNotice;
  void fail_queue() noexcept;

  io::Loop& loop_;
  std::unique_ptr<io::File> file_;
  std::unique_ptr<uint8_t, void (*)(void*)> memory_;  // kBatchUnits
  MetadataOwner* owner_ = nullptr;
  Superblock superblock_;
  std::vector<uint32_t> slots_;  // what the log on disk says once the persists before have ended
  ActivityLogPosition next_record_;
  bool ring_damaged_ = false;
  uint32_t damaged_pages_ = 0;

  RingQueue<Persist> queue_;
  std::unique_ptr<FailureNotice> failure_notice_;
  bool busy_ = false;
  MetadataLayout grown_;         // of the PersistSize in front
  size_t step_ = 0;              // writes of the persist in front that have ended
  bool record_written_ = false;  // … its record was one of them
  int failed_errno_ = 0;
};

}  // namespace lockstep::repl
