#include "io/file_map.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

namespace lockstep::io {
namespace {

constexpr uint64_t kMi = 1024 * 1024;

// An unnamed file.
class Scratch {
 public:
  Scratch() {
    std::string path = (std::filesystem::temp_directory_path() / "file-map-XXXXXX").string();
    fd = ::mkstemp(path.data());
    REQUIRE(fd >= 0);
    ::unlink(path.c_str());
  }
  ~Scratch() { ::close(fd); }
  void write(uint64_t offset, size_t length) const {
    const std::vector<uint8_t> bytes(length, 1);
    REQUIRE(::pwrite(fd, bytes.data(), length, static_cast<off_t>(offset)) == static_cast<ssize_t>(length));
  }
  int fd = -1;
};

}  // namespace

TEST_CASE("the map of a file covers the range, and what is called zero reads as zeroes") {
  const Scratch scratch;
  REQUIRE(::ftruncate(scratch.fd, 16 * kMi) == 0);
  scratch.write(4 * kMi, 1 * kMi);
  scratch.write(9 * kMi, 4096);
  const FileMap map(scratch.fd);
  std::array<BlockExtent, 16> extents{};
  const size_t count = map.extents(1 * kMi, 15 * kMi, extents);
  uint64_t at = 1 * kMi;
  for (size_t i = 0; i < count; ++i) {
    REQUIRE(extents[i].length_bytes > 0);
    const uint64_t end = at + extents[i].length_bytes;
    if (extents[i].flags == extent_flag::kZero) {
      for (uint64_t data : {4 * kMi, 4 * kMi + 500000, 9 * kMi}) CHECK((data < at || data >= end));
    } else {
      CHECK(extents[i].flags == 0);
    }
    at = end;
  }
  CHECK(at == 16 * kMi);
  CHECK(map.extents(0, 16 * kMi, std::span(extents).first(1)) == 1);
}

TEST_CASE("space that is reserved and not written is zeroes") {
  const Scratch scratch;
  if (::posix_fallocate(scratch.fd, 0, 8 * kMi) != 0) return;
  scratch.write(0, 4096);
  std::array<BlockExtent, 4> extents{};
  const size_t count = FileMap(scratch.fd).extents(0, 8 * kMi, extents);
  CHECK((count == 1 || count == 2));
  CHECK(extents[0].flags == 0);
}

TEST_CASE("of what is no file everything counts as data") {
  const int fd = ::open("/dev/zero", O_RDONLY | O_CLOEXEC);
  std::array<BlockExtent, 4> extents{};
  CHECK(FileMap(fd).extents(512, 4096, extents) == 1);
  CHECK(extents[0].length_bytes == 4096);
  CHECK(extents[0].flags == 0);
  ::close(fd);
}

}  // namespace lockstep::io
