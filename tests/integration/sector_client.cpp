// An NBD client, on libnbd, whose writes describe themselves, and the check of an image against what was acknowledged.
//
//   sector_client write  URI --offset O --length L --sequence S [--fua yes] [--flush yes]
//   sector_client zero   URI --offset O --length L [--fua yes] [--flush yes]
//   sector_client trim   URI --offset O --length L [--flush yes]
//   sector_client flush  URI
//   sector_client hold   URI                       connects, prints "connected", stays until stdin ends
//   sector_client expect FILE|URI --offset O --length L --sequence S     (0: zeroes)
//   sector_client load   URI --ledger FILE --seconds T [--depth N] [--span BYTES] [--seed X]
//   sector_client check  FILE --ledger FILE
//
// Each sector of a write holds its own offset, its sequence number and a checksum, so that data at a wrong offset, of a
// wrong version or damaged shows. load writes random blocks, several at once, no block twice at a time, with a flush
// now and then; its ledger has a line for each block: number, sequence submitted, acknowledged, flushed. load ends with
// 0 when the time is up or the server is gone, and tells how long its longest request took. check wants in each block
// the version that was acknowledged last, or the one that was in flight after it, whole or sector by sector.
//
// Exit status: 0 as expected; 1 not, or an I/O error, whose name is printed; 2 wrong usage.
#include <fcntl.h>
#include <libnbd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <deque>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/libnbd_strictness.h"

namespace {

constexpr uint64_t kSectorBytes = 512;
constexpr uint64_t kBlockBytes = 4096;
constexpr uint64_t kSectorMagic = 0x6c6f636b73656374U;  // "locksect"
constexpr uint64_t kMaximumRequestBytes = 1U << 20U;
constexpr int kWritesPerFlush = 64;

struct Options {
  std::string verb;
  std::string target;  // URI or file
  std::map<std::string, std::string> values;

  bool has(const std::string& name) const { return values.contains(name); }
  uint64_t number(const std::string& name) const {
    const std::string& text = values.at(name);
    uint64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size()) {
      throw std::invalid_argument("--" + name + " takes a number, not '" + text + "'");
    }
    return number;
  }
  uint64_t number_or(const std::string& name, uint64_t otherwise) const { return has(name) ? number(name) : otherwise; }
};

// --- sectors that describe themselves --------------------------------------------------------------------------------

struct Sector {
  uint64_t magic;
  uint64_t offset_bytes;
  uint64_t sequence;
  uint64_t checksum;
};

uint64_t mixed(uint64_t value) {
  value = (value ^ (value >> 31U)) * 0x9e3779b97f4a7c15U;
  return value ^ (value >> 29U);
}

void fill_sector(char* bytes, uint64_t offset_bytes, uint64_t sequence) {
  std::memset(bytes, 0, kSectorBytes);
  if (sequence == 0) return;
  const uint64_t checksum = mixed(offset_bytes + mixed(sequence));
  const Sector sector{kSectorMagic, offset_bytes, sequence, checksum};
  std::memcpy(bytes, &sector, sizeof sector);
  uint64_t state = checksum;
  for (size_t position = sizeof sector; position < kSectorBytes; position += sizeof state) {
    state = mixed(state + position);
    std::memcpy(bytes + position, &state, sizeof state);
  }
}

std::vector<char> filled_range(uint64_t offset_bytes, uint64_t length_bytes, uint64_t sequence) {
  std::vector<char> bytes(length_bytes);
  for (uint64_t position = 0; position < length_bytes; position += kSectorBytes) {
    fill_sector(bytes.data() + position, offset_bytes + position, sequence);
  }
  return bytes;
}

// What a sector that is not the wanted one holds, in words.
std::string description_of(const char* bytes) {
  Sector sector{};
  std::memcpy(&sector, bytes, sizeof sector);
  std::array<char, kSectorBytes> whole{};
  if (std::memcmp(bytes, whole.data(), kSectorBytes) == 0) return "zeroes";
  if (sector.magic != kSectorMagic) return "foreign bytes";
  fill_sector(whole.data(), sector.offset_bytes, sector.sequence);
  const bool is_whole = std::memcmp(bytes, whole.data(), kSectorBytes) == 0;
  return "sequence " + std::to_string(sector.sequence) + " of offset " + std::to_string(sector.offset_bytes) +
         (is_whole ? "" : ", damaged");
}

bool sector_is(const char* bytes, uint64_t offset_bytes, uint64_t sequence) {
  std::array<char, kSectorBytes> wanted{};
  fill_sector(wanted.data(), offset_bytes, sequence);
  return std::memcmp(bytes, wanted.data(), kSectorBytes) == 0;
}

// --- NBD and files ---------------------------------------------------------------------------------------------------

struct NbdError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

using Nbd = std::unique_ptr<nbd_handle, decltype(&nbd_close)>;

void check_nbd(int result) {
  if (result >= 0) return;
  const char* name = strerrorname_np(nbd_get_errno());
  throw NbdError(std::string(name == nullptr ? "error" : name) + ": " + nbd_get_error());
}

Nbd connect_to(const std::string& uri) {
  Nbd nbd(nbd_create(), &nbd_close);
  if (!nbd) throw std::runtime_error("libnbd cannot start");
  // The server's own checks are what is tested: libnbd shall not refuse first.
  check_nbd(nbd_set_strict_mode(nbd.get(), kNoClientChecks));
  check_nbd(nbd_connect_uri(nbd.get(), uri.c_str()));
  return nbd;
}

bool is_uri(const std::string& target) {
  return target.find("://") != std::string::npos;
}

// Reads past the page cache where the file allows it: lockstepd writes with O_DIRECT.
std::vector<char> read_file(const std::string& path, uint64_t offset_bytes, uint64_t length_bytes) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) throw std::runtime_error("cannot open " + path + ": " + std::strerror(errno));
  std::vector<char> bytes(length_bytes);
  size_t done = 0;
  while (done < length_bytes) {
    const ssize_t result =
        pread(file, bytes.data() + done, length_bytes - done, static_cast<off_t>(offset_bytes + done));
    if (result <= 0) {
      close(file);
      throw std::runtime_error("cannot read " + path + " at " + std::to_string(offset_bytes + done));
    }
    done += static_cast<size_t>(result);
  }
  close(file);
  return bytes;
}

std::vector<char> read_export(nbd_handle* nbd, uint64_t offset_bytes, uint64_t length_bytes) {
  std::vector<char> bytes(length_bytes);
  for (uint64_t done = 0; done < length_bytes; done += kMaximumRequestBytes) {
    const uint64_t part = std::min(kMaximumRequestBytes, length_bytes - done);
    check_nbd(nbd_pread(nbd, bytes.data() + done, part, offset_bytes + done, 0));
  }
  return bytes;
}

// --- single requests -------------------------------------------------------------------------------------------------

int change(const Options& options) {
  const Nbd nbd = connect_to(options.target);
  const uint32_t flags = options.has("fua") ? LIBNBD_CMD_FLAG_FUA : 0;
  if (options.verb == "write") {
    const uint64_t offset_bytes = options.number("offset");
    const uint64_t length_bytes = options.number("length");
    const auto bytes = filled_range(offset_bytes, length_bytes, options.number("sequence"));
    for (uint64_t done = 0; done < length_bytes; done += kMaximumRequestBytes) {
      const uint64_t part = std::min(kMaximumRequestBytes, length_bytes - done);
      check_nbd(nbd_pwrite(nbd.get(), bytes.data() + done, part, offset_bytes + done, flags));
    }
  } else if (options.verb == "zero") {
    check_nbd(nbd_zero(nbd.get(), options.number("length"), options.number("offset"), flags));
  } else if (options.verb == "trim") {
    check_nbd(nbd_trim(nbd.get(), options.number("length"), options.number("offset"), flags));
  }
  if (options.verb == "flush" || options.has("flush")) check_nbd(nbd_flush(nbd.get(), 0));
  check_nbd(nbd_shutdown(nbd.get(), 0));
  return 0;
}

int hold(const Options& options) {
  const Nbd nbd = connect_to(options.target);
  std::cout << "connected" << std::endl;
  std::string line;
  while (std::getline(std::cin, line)) {
  }
  return 0;
}

int expect(const Options& options) {
  const uint64_t offset_bytes = options.number("offset");
  const uint64_t length_bytes = options.number("length");
  const uint64_t sequence = options.number("sequence");
  std::vector<char> bytes;
  if (is_uri(options.target)) {
    const Nbd nbd = connect_to(options.target);
    bytes = read_export(nbd.get(), offset_bytes, length_bytes);
  } else {
    bytes = read_file(options.target, offset_bytes, length_bytes);
  }
  for (uint64_t position = 0; position < length_bytes; position += kSectorBytes) {
    if (sector_is(bytes.data() + position, offset_bytes + position, sequence)) continue;
    std::cerr << options.target << " at " << offset_bytes + position << ": wanted sequence " << sequence << ", found "
              << description_of(bytes.data() + position) << "\n";
    return 1;
  }
  return 0;
}

// --- load and ledger -------------------------------------------------------------------------------------------------

struct BlockRecord {
  uint64_t submitted = 0;
  uint64_t acknowledged = 0;
  uint64_t flushed = 0;
};

using Ledger = std::map<uint64_t, BlockRecord>;  // by block number

Ledger read_ledger(const std::string& path) {
  Ledger ledger;
  std::ifstream file(path);
  uint64_t block = 0;
  BlockRecord record;
  while (file >> block >> record.submitted >> record.acknowledged >> record.flushed) ledger[block] = record;
  return ledger;
}

void write_ledger(const std::string& path, const Ledger& ledger) {
  std::ofstream file(path);
  for (const auto& [block, record] : ledger) {
    file << block << ' ' << record.submitted << ' ' << record.acknowledged << ' ' << record.flushed << '\n';
  }
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

class Load {
 public:
  Load(const Options& options, nbd_handle* nbd)
      : nbd_(nbd),
        ledger_(read_ledger(options.values.at("ledger"))),
        depth_(options.number_or("depth", 16)),
        random_(options.number_or("seed", 1)) {
    const int64_t size_bytes = nbd_get_size(nbd);
    check_nbd(size_bytes < 0 ? -1 : 0);
    const uint64_t span_bytes = std::min(static_cast<uint64_t>(size_bytes), options.number_or("span", UINT64_MAX));
    blocks_ = span_bytes / kBlockBytes;
    if (blocks_ < depth_) throw std::invalid_argument("the span is smaller than the depth");
    for (const auto& [block, record] : ledger_) sequence_ = std::max(sequence_, record.submitted);
    settle_uncertain_blocks();
  }

  // Ends when the time is up, all requests answered, or when one fails.
  void run(std::chrono::seconds duration) {
    const auto end = std::chrono::steady_clock::now() + duration;
    while (failure_.empty()) {
      const bool time_is_up = std::chrono::steady_clock::now() >= end;
      if (time_is_up && in_flight_ == 0 && !flush_in_flight_) return;
      if (!time_is_up) submit();
      if (nbd_poll(nbd_, 100) < 0) {
        failure_ = nbd_get_error();
      }
      retire();
    }
  }

  const Ledger& ledger() const { return ledger_; }
  uint64_t acknowledged_writes() const { return acknowledged_writes_; }
  uint64_t flushes() const { return flushes_; }
  const std::string& failure() const { return failure_; }
  std::chrono::milliseconds longest_request() const {
    return std::chrono::duration_cast<std::chrono::milliseconds>(longest_request_);
  }

 private:
  using Clock = std::chrono::steady_clock;
  struct Request {
    Load* load = nullptr;
    Clock::time_point submitted_at = Clock::now();
    Clock::time_point done_at;
    uint64_t block = 0;
    uint64_t sequence = 0;
    bool is_flush = false;
    bool is_done = false;
    int error = 0;
    std::vector<char> bytes;
    std::vector<std::pair<uint64_t, uint64_t>> covered;  // of a flush: block and sequence acknowledged before it
  };

  // After a crash a block that was in flight may hold either version: from here on it is the one that it holds.
  void settle_uncertain_blocks() {
    for (auto& [block, record] : ledger_) {
      if (record.submitted == record.acknowledged) continue;
      const auto bytes = read_export(nbd_, block * kBlockBytes, kBlockBytes);
      for (const uint64_t sequence : {record.submitted, record.acknowledged}) {
        if (bytes == filled_range(block * kBlockBytes, kBlockBytes, sequence)) record.acknowledged = sequence;
      }
      record.submitted = record.acknowledged;
    }
  }

  void submit() {
    while (in_flight_ < depth_) {
      const uint64_t block = random_() % blocks_;
      BlockRecord& record = ledger_[block];
      if (record.submitted != record.acknowledged) continue;
      record.submitted = ++sequence_;
      Request& request = requests_.emplace_back();
      request.load = this;
      request.block = block;
      request.sequence = record.submitted;
      request.bytes = filled_range(block * kBlockBytes, kBlockBytes, record.submitted);
      ++in_flight_;
      const nbd_completion_callback callback{&Load::completed, &request, nullptr};
      if (nbd_aio_pwrite(nbd_, request.bytes.data(), kBlockBytes, block * kBlockBytes, callback, 0) < 0) {
        failure_ = nbd_get_error();
        return;
      }
    }
    if (!flush_in_flight_ && unflushed_.size() >= kWritesPerFlush) {
      Request& request = requests_.emplace_back();
      request.load = this;
      request.is_flush = true;
      request.covered.swap(unflushed_);
      flush_in_flight_ = true;
      const nbd_completion_callback callback{&Load::completed, &request, nullptr};
      if (nbd_aio_flush(nbd_, callback, 0) < 0) failure_ = nbd_get_error();
    }
  }

  static int completed(void* user_data, int* error) {
    Request& request = *static_cast<Request*>(user_data);
    request.is_done = true;
    request.done_at = Clock::now();
    request.error = *error;
    return 1;
  }

  void retire() {
    for (Request& request : requests_) {
      if (!request.is_done || request.sequence == UINT64_MAX) continue;
      longest_request_ = std::max(longest_request_, request.done_at - request.submitted_at);
      if (request.error != 0) {
        if (failure_.empty()) failure_ = std::strerror(request.error);
      } else if (request.is_flush) {
        ++flushes_;
        for (const auto& [block, sequence] : request.covered) {
          ledger_[block].flushed = std::max(ledger_[block].flushed, sequence);
        }
      } else {
        ++acknowledged_writes_;
        ledger_[request.block].acknowledged = request.sequence;
        unflushed_.emplace_back(request.block, request.sequence);
      }
      if (request.is_flush) {
        flush_in_flight_ = false;
      } else {
        --in_flight_;
      }
      request.sequence = UINT64_MAX;  // counted
    }
    while (!requests_.empty() && requests_.front().sequence == UINT64_MAX) requests_.pop_front();
  }

  nbd_handle* nbd_;
  Ledger ledger_;
  uint64_t depth_;
  std::mt19937_64 random_;
  uint64_t blocks_ = 0;
  uint64_t sequence_ = 0;
  uint64_t in_flight_ = 0;
  bool flush_in_flight_ = false;
  uint64_t acknowledged_writes_ = 0;
  uint64_t flushes_ = 0;
  Clock::duration longest_request_{};
  std::string failure_;
  std::deque<Request> requests_;  // in a deque requests keep their addresses, which libnbd holds
  std::vector<std::pair<uint64_t, uint64_t>> unflushed_;
};

int load(const Options& options) {
  const Nbd nbd = connect_to(options.target);
  Load load(options, nbd.get());
  load.run(std::chrono::seconds(options.number("seconds")));
  write_ledger(options.values.at("ledger"), load.ledger());
  std::cout << load.acknowledged_writes() << " writes and " << load.flushes() << " flushes acknowledged, ended by "
            << (load.failure().empty() ? "time" : load.failure()) << ", the longest request took "
            << load.longest_request().count() << " ms\n";
  return load.acknowledged_writes() > 0 ? 0 : 1;
}

int check(const Options& options) {
  const Ledger ledger = read_ledger(options.values.at("ledger"));
  if (ledger.empty()) throw std::runtime_error("the ledger is empty");
  uint64_t wrong = 0;
  uint64_t in_flight = 0;
  for (const auto& [block, record] : ledger) {
    const uint64_t offset_bytes = block * kBlockBytes;
    const auto bytes = read_file(options.target, offset_bytes, kBlockBytes);
    if (record.submitted != record.acknowledged) ++in_flight;
    for (uint64_t position = 0; position < kBlockBytes; position += kSectorBytes) {
      const char* sector = bytes.data() + position;
      if (sector_is(sector, offset_bytes + position, record.acknowledged)) continue;
      if (sector_is(sector, offset_bytes + position, record.submitted)) continue;
      if (++wrong <= 10) {
        std::cerr << options.target << " at " << offset_bytes + position << ": acknowledged was sequence "
                  << record.acknowledged << ", found " << description_of(sector) << "\n";
      }
    }
  }
  std::cout << ledger.size() << " blocks checked, " << in_flight << " of them in flight at the end, " << wrong
            << " sectors wrong\n";
  return wrong == 0 ? 0 : 1;
}

Options read_options(const std::vector<std::string>& arguments) {
  Options options;
  if (arguments.size() < 2) throw std::invalid_argument("a verb and a URI or file are needed");
  options.verb = arguments[0];
  options.target = arguments[1];
  for (size_t index = 2; index < arguments.size(); index += 2) {
    const std::string& name = arguments[index];
    if (!name.starts_with("--") || index + 1 == arguments.size()) throw std::invalid_argument(name + " needs a value");
    options.values[name.substr(2)] = arguments[index + 1];
  }
  return options;
}

int run(const Options& options) {
  const std::string& verb = options.verb;
  if (verb == "write" || verb == "zero" || verb == "trim" || verb == "flush") return change(options);
  if (verb == "hold") return hold(options);
  if (verb == "expect") return expect(options);
  if (verb == "load") return load(options);
  if (verb == "check") return check(options);
  throw std::invalid_argument("unknown verb " + verb);
}

}  // namespace

int main(int argument_count, char** arguments) try {
  return run(read_options({arguments + 1, arguments + argument_count}));
} catch (const std::invalid_argument& error) {
  std::cerr << "sector_client: " << error.what() << "\n";
  return 2;
} catch (const std::out_of_range& error) {
  std::cerr << "sector_client: an option is missing (" << error.what() << ")\n";
  return 2;
} catch (const std::exception& error) {
  std::cerr << "sector_client: " << error.what() << "\n";
  return 1;
}
