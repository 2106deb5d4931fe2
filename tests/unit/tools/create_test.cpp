// create and dump-metadata, on files.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <sstream>

#include "replicator/metadata_setup.h"
#include "tests/unit/tools/temporary_folder.h"
#include "tools/disk_inspection.h"
#include "tools/lockstep_common.h"

using namespace lockstep;
using namespace lockstep::tools;

namespace {

struct Node {
  TemporaryFolder folder;
  std::string disk = folder.path() + "/r.img";
  std::string metadata = folder.path() + "/r.meta";
  std::string configuration = folder.write(
      "r.conf", "[resource]\nname=r\nsize=8M\n[node.alpha]\naddress=127.0.0.1:1\ndisk=" + disk +
                    "\nmetadata=" + metadata + "\n[node.beta]\naddress=127.0.0.1:2\ndisk=/nonexistent/b\n");

  // The exit code and, of a failure, its line.
  std::pair<ExitCode, std::string> run(std::vector<std::string> words) const {
    words.insert(words.end(), {"r", "--node", "alpha", "--config", configuration, "--run-dir", folder.path()});
    const Result<Arguments> arguments = parse_arguments(words);
    REQUIRE(arguments.ok());
    try {
      const ExitCode code = words[0] == "create" ? run_create(*arguments) : run_dump_metadata(*arguments);
      return {code, ""};
    } catch (const CommandError& error) {
      return {error.code(), error.what()};
    }
  }

  std::string disk_content() const {
    std::ifstream file(disk, std::ios::binary);
    std::stringstream content;
    content << file.rdbuf();
    return content.str();
  }
  bool exists(const std::string& path) const { return ::access(path.c_str(), F_OK) == 0; }
  repl::Superblock superblock() const {
    const auto found = repl::find_metadata(metadata);
    REQUIRE(found.ok());
    return *found;
  }
};

constexpr size_t kSize = 8 * 1024 * 1024;

// A boot record with one Linux partition of 4096 sectors from sector 2048 on.
std::string disk_with_partition() {
  std::string disk(kSize, '\0');
  disk[446 + 4] = '\x83';
  disk[446 + 9] = 8;
  disk[446 + 13] = 16;
  disk[510] = '\x55';
  disk[511] = '\xaa';
  return disk;
}

using Outcome = std::pair<ExitCode, std::string>;

}  // namespace

TEST_CASE("create makes a zeroed, allocated disk and fresh metadata") {
  Node node;
  REQUIRE(node.run({"create"}) == Outcome{ExitCode::Done, ""});
  CHECK(node.disk_content() == std::string(kSize, '\0'));
  struct stat about {};
  REQUIRE(::stat(node.disk.c_str(), &about) == 0);
  CHECK(static_cast<size_t>(about.st_blocks) * 512 >= kSize);
  const repl::Superblock superblock = node.superblock();
  CHECK(superblock.resource_name == "r");
  CHECK(superblock.node_name == "alpha");
  CHECK(superblock.peer_names == std::vector<std::string>{"beta"});
  CHECK(superblock.identity.size_bytes == kSize);
  CHECK(superblock.image.current.is_zero());
  CHECK(node.run({"dump-metadata"}).first == ExitCode::Done);
}

TEST_CASE("create keeps existing data when asked") {
  Node node;
  const std::string data(kSize, 'd');
  node.folder.write("r.img", data);
  REQUIRE(node.run({"create", "--existing-data"}) == Outcome{ExitCode::Done, ""});
  CHECK(node.disk_content() == data);
  CHECK(node.superblock().image.disk_state == repl::DiskState::UpToDate);
  CHECK_FALSE(node.superblock().image.current.is_zero());

  const repl::Generation first = node.superblock().image.current;
  REQUIRE(node.run({"create", "--existing-data", "--force"}) == Outcome{ExitCode::Done, ""});
  CHECK(node.superblock().image.current != first);
}

TEST_CASE("create zeroes an existing disk that holds nothing known") {
  Node node;
  node.folder.write("r.img", std::string(kSize, 'd'));
  REQUIRE(node.run({"create"}) == Outcome{ExitCode::Done, ""});
  CHECK(node.disk_content() == std::string(kSize, '\0'));
}

TEST_CASE("create refuses a second time, and with force starts anew") {
  Node node;
  REQUIRE(node.run({"create"}).first == ExitCode::Done);
  CHECK(node.run({"create"}) ==
        Outcome{ExitCode::Refused,
                node.metadata + " holds Lockstep metadata: choose another path, or overwrite it with --force"});
  CHECK(node.run({"create", "--force"}) == Outcome{ExitCode::Done, ""});
}

TEST_CASE("create refuses known content and changes nothing") {
  Node node;
  node.folder.write("r.img", std::string(kSize, '\0'));
  const std::string what =
      GENERATE(as<std::string>{}, "an ext4 file system", "a swap signature", "a partition table (dos)");
  if (what == "an ext4 file system") {
    REQUIRE(std::system(("/sbin/mkfs.ext4 -q -F " + node.disk).c_str()) == 0);
  } else if (what == "a swap signature") {
    REQUIRE(std::system(("/sbin/mkswap -q " + node.disk + " 2>/dev/null").c_str()) == 0);
  } else {
    node.folder.write("r.img", disk_with_partition());
  }
  const std::string before = node.disk_content();
  CHECK(node.run({"create"}) == Outcome{ExitCode::Refused, node.disk + " holds " + what +
                                                               ": choose another path, or overwrite it with --force"});
  CHECK(node.disk_content() == before);
  CHECK_FALSE(node.exists(node.metadata));
  CHECK(node.run({"create", "--existing-data"}) == Outcome{ExitCode::Done, ""});
  CHECK(node.disk_content() == before);
}

TEST_CASE("create refuses what is in use, also with force") {
  Node node;
  const std::string in_use = GENERATE(as<std::string>{}, "r.img", "r.meta");
  const std::string path = node.folder.write(in_use, std::string(kSize, 'd'));
  const int holder = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(::flock(holder, LOCK_EX) == 0);
  CHECK(node.run({"create", "--force"}) ==
        Outcome{ExitCode::Refused,
                path + " is in use: a daemon or another program has it locked: see 'fuser -v " + path + "'"});
  ::close(holder);
  CHECK(node.run({"create", "--force"}) == Outcome{ExitCode::Done, ""});
}

TEST_CASE("create takes no file for metadata that might be somebody's") {
  Node node;
  node.folder.write("r.meta", "notes");
  CHECK(node.run({"create"}) ==
        Outcome{ExitCode::Refused, node.metadata + " exists and is not empty: choose another path, or "
                                                   "overwrite it with --force"});
  CHECK_FALSE(node.exists(node.disk));
  node.folder.write("r.meta", "");
  CHECK(node.run({"create"}) == Outcome{ExitCode::Done, ""});
}

TEST_CASE("create with disks that cannot do") {
  Node node;
  CHECK(node.run({"create", "--existing-data"}) ==
        Outcome{ExitCode::Failed, node.disk + " does not exist: there is no data to keep"});
  node.folder.write("r.img", std::string(4096, 'd'));
  CHECK(node.run({"create"}) ==
        Outcome{ExitCode::Failed, node.disk + " is too small: it has 4096 bytes, and r needs 8388608"});
  std::filesystem::remove(node.disk);
  std::filesystem::create_directory(node.disk);
  CHECK(node.run({"create"}) == Outcome{ExitCode::Usage, node.disk + " is neither a file nor a block device"});
  CHECK_FALSE(node.exists(node.metadata));
}

TEST_CASE("create without room leaves nothing behind") {
  Node node;
  node.configuration = node.folder.write(
      "r.conf", "[resource]\nname=r\nsize=8000T\n[node.alpha]\naddress=127.0.0.1:1\ndisk=" + node.disk +
                    "\nmetadata=" + node.metadata + "\n");
  const Outcome outcome = node.run({"create"});
  CHECK(outcome.first == ExitCode::Failed);
  CAPTURE(outcome.second);
  CHECK(outcome.second.find("free: make room") != std::string::npos);
  CHECK_FALSE(node.exists(node.disk));
  CHECK_FALSE(node.exists(node.metadata));
}

TEST_CASE("dump-metadata of what is none") {
  Node node;
  CHECK(node.run({"dump-metadata"}).first == ExitCode::Failed);
  node.folder.write("r.meta", std::string(1024 * 1024, 'x'));
  CHECK(node.run({"dump-metadata"}).first == ExitCode::Failed);
}
