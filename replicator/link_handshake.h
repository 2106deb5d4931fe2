// Who is there? The exchange of Hello that opens every replication link: docs/protocol.md, "Greeting".
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "io/base/result.h"
#include "io/stream.h"
#include "io/task.h"
#include "replicator/peer_protocol.h"

namespace lockstep::repl {

struct LinkIdentity {
  std::string resource_name;
  std::string node_name;
  uint64_t size_bytes = 0;
  uint64_t prepared_size_bytes = 0;  // this node can follow a peer of that size; 0: of none
};

Hello make_hello(const LinkIdentity& self, const std::string& peer_name, uint64_t incarnation_half);
// Why `theirs` cannot be answered by a link, if so: in words for the other side's operator.
std::optional<Refusal> judge_hello(const LinkIdentity& self, const Hello& theirs);

// 64 bits from the system.
uint64_t random_half();

// The stream must outlive the tasks. A Refusal that arrives instead of a Hello is an Error of kind Refused with its
// text. Whoever wants a deadline shuts the stream down.
io::Task<Status> send_hello(io::Stream& stream, Hello hello);
io::Task<Status> send_refusal(io::Stream& stream, Refusal refusal);
io::Task<Result<Hello>> receive_hello(io::Stream& stream);

}  // namespace lockstep::repl
