// The journal's own protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL): a datagram for each entry, with fields.
// libsystemd speaks it as well, but to one fixed socket only, and the service notification does without it, too.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lockstep::tools {

inline constexpr const char* kJournalSocket = "/run/systemd/journal/socket";

using JournalFields = std::vector<std::pair<std::string_view, std::string_view>>;

// One entry. Names are of A-Z, 0-9 and _; values without a line break (the protocol has a longer form for those), and
// fields without a value are left out. Pure.
std::string journal_entry(const JournalFields& fields);

// Sends entries to the socket at a path; whoever listens there may come and go.
class Journal {
 public:
  explicit Journal(std::string socket_path);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  // False when the entry was not taken: nobody listens, it is too long, or the journal is behind. Never blocks.
  bool send(std::string_view entry) const;

 private:
  const std::string socket_path_;
  const int socket_;
};

}  // namespace lockstep::tools
