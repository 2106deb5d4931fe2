#include "tests/crash/recovery.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "io/base/check.h"
#include "io/task.h"

namespace lockstep::crash {

using repl::PersistId;

repl::ReplicaOptions replica_options() {
  repl::ReplicaOptions options;
  options.size_bytes = kDeviceBytes;
  options.peer_count = 1;
  options.client_slots = 8;
  options.apply_slots = 8;
  options.resync_slots = 2;
  options.transfer_log_entries = 16;
  options.activity_log_slots = kActivityLogSlots;
  return options;
}

// One start of a node, as Driver::start does it, without disk and links.
class Recoverer::Run final : public repl::MetadataOwner {
 public:
  explicit Run(repl::MetadataStore& store)
      : store_(store), replica_(replica_options()), actions_(repl::Replica::actions_capacity(replica_options())) {}

  Recovered start() {
    Recovered recovered;
    recovered.found = store_.superblock();
    recovered.activity_log_valid = store_.activity_log_valid();
    recovered.activity_log.assign(store_.activity_log().begin(), store_.activity_log().end());
    const Status loaded =
        store_.load_bitmaps([&](repl::PeerIndex peer, uint32_t page, std::span<const uint64_t> words) {
          recovered.pages.emplace_back(words.begin(), words.end());
          replica_.load_bitmap_page(peer, page, words);
        });
    if (!loaded) {
      recovered.error = loaded.error().message;
      return recovered;
    }
    recovered.damaged_pages = store_.damaged_pages();
    repl::DurableState durable;
    durable.superblock = store_.superblock();
    durable.activity_log = store_.activity_log();
    durable.activity_log_valid = store_.activity_log_valid();
    replica_.start(durable, {1, 2}, 1, actions_);
    recovered.image = replica_.superblock();
    recovered.bits.resize(divide_up(kBlocks, uint64_t{64}));
    for (uint32_t page = 0; page < replica_.bitmap_pages(); ++page) {
      const auto words = replica_.bitmap_words(0, page);
      const uint64_t first = page * repl::kWordsPerBitmapPage;
      for (uint64_t i = 0; i < words.size() && first + i < recovered.bits.size(); ++i) {
        recovered.bits[first + i] = words[i];
      }
    }
    return recovered;
  }

  // Everything that start() asked for, durably; false when there was nothing.
  bool persist(io::Loop& loop) {
    loop_ = &loop;
    store_.set_owner(*this);
    for (const repl::Action& action : actions_) {
      if (const auto* superblock = std::get_if<repl::PersistSuperblock>(&action)) ask(*superblock);
      if (const auto* pages = std::get_if<repl::PersistBitmapPages>(&action)) ask(*pages);
      if (const auto* log = std::get_if<repl::PersistActivityLog>(&action)) ask(*log);
      if (const auto* empty = std::get_if<repl::PersistActivityLogEmpty>(&action)) ask(*empty);
    }
    return asked_ > 0;
  }

 private:
  template <typename Persist>
  void ask(const Persist& persist) {
    ++asked_;
    store_.persist(persist);
  }
  void persisted(PersistId, int error_errno) noexcept override {
    LOCKSTEP_CHECK(error_errno == 0);
    if (++ended_ == asked_) loop_->stop();
  }
  std::span<const uint64_t> bitmap_words(repl::PeerIndex peer, uint32_t page) override {
    return replica_.bitmap_words(peer, page);
  }

  repl::MetadataStore& store_;
  repl::Replica replica_;
  repl::Actions actions_;
  io::Loop* loop_ = nullptr;
  size_t asked_ = 0, ended_ = 0;
};

Recoverer::Recoverer(std::string path, std::string node, std::string peer)
    : path_(std::move(path)), node_(std::move(node)), peer_(std::move(peer)) {
  fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  LOCKSTEP_CHECK(fd_ >= 0);
}

Recoverer::~Recoverer() {
  ::close(fd_);
  ::unlink(path_.c_str());
}

void Recoverer::patch(uint64_t offset_bytes, std::span<const uint8_t> bytes) {
  LOCKSTEP_CHECK(offset_bytes + bytes.size() <= content_.size());
  std::copy(bytes.begin(), bytes.end(), content_.begin() + static_cast<std::ptrdiff_t>(offset_bytes));
  LOCKSTEP_CHECK(::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset_bytes)) ==
                 static_cast<ssize_t>(bytes.size()));
}

void Recoverer::put(const std::vector<uint8_t>& bytes) {
  if (content_.size() != bytes.size()) {
    LOCKSTEP_CHECK(::ftruncate(fd_, static_cast<off_t>(bytes.size())) == 0);
    content_.assign(bytes.size(), 0);
    patch(0, bytes);
    return;
  }
  constexpr size_t kUnit = 4096;
  for (size_t at = 0; at < bytes.size(); at += kUnit) {
    const size_t length = std::min(kUnit, bytes.size() - at);
    const std::span<const uint8_t> wanted = std::span(bytes).subspan(at, length);
    if (!std::equal(wanted.begin(), wanted.end(), content_.begin() + static_cast<std::ptrdiff_t>(at))) {
      patch(at, wanted);
    }
  }
}

io::Loop& Recoverer::loop() {
  if (!loop_) {
    io::LoopOptions options;
    options.ring_entries = 8;
    options.buffer_arena_bytes = 64 * kKiB;
    options.plain_ring = true;
    options.disk_observer = this;
    auto made = io::Loop::create(options);
    LOCKSTEP_CHECK(made.ok());
    loop_ = std::move(*made);
  }
  return *loop_;
}

Recovered Recoverer::recover() {
  auto store = repl::MetadataStore::open(loop(), path_, {"pgdata", node_, {peer_}, kDeviceBytes});
  if (!store) return {.error = store.error().message};
  Run run(**store);
  return run.start();
}

Recovered Recoverer::recover_wholly(io::DiskObserver* observer) {
  observer_ = observer;
  Recovered recovered;
  {
    auto store = repl::MetadataStore::open(loop(), path_, {"pgdata", node_, {peer_}, kDeviceBytes});
    if (!store) {
      recovered.error = store.error().message;
    } else {
      Run run(**store);
      recovered = run.start();
      if (recovered.error.empty() && run.persist(loop())) loop().run();
    }
  }
  observer_ = nullptr;
  loop_.reset();  // a loop runs once
  return recovered;
}

void Recoverer::disk_request_started(const void* operation, const io::DiskRequest& request) noexcept {
  if (request.kind == io::DiskRequestKind::Write) {
    std::copy(request.bytes.begin(), request.bytes.end(),
              content_.begin() + static_cast<std::ptrdiff_t>(request.offset_bytes));
  }
  if (observer_ != nullptr) observer_->disk_request_started(operation, request);
}

void Recoverer::disk_request_ended(const void* operation, int error_errno) noexcept {
  if (observer_ != nullptr) observer_->disk_request_ended(operation, error_errno);
}

}  // namespace lockstep::crash
