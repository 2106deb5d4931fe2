// Who may be at the other end of a replication link: TLS under everything that peers say to each other, with a key that
// the nodes share or with a certificate for each node. Docs: docs/protocol.md, "TLS".
#pragma once

#include <memory>
#include <string>

#include "io/base/result.h"
#include "io/loop.h"
#include "io/stream.h"
#include "io/task.h"
#include "io/tls.h"

namespace lockstep::repl {

struct LinkSecurity {
  // Null, both or neither: plain TCP.
  std::shared_ptr<const io::TlsCredentials> dialing;
  std::shared_ptr<const io::TlsCredentials> listening;
  // A certificate is of one node, whose name it must bear. A key is of all of them.
  bool by_certificate = false;
};

// `secret_file`: "NAME:HEX-KEY", as psktool writes it; `certificates`: a folder with ca-cert.pem and this node's
// server-cert.pem, server-key.pem, client-cert.pem and client-key.pem. One of them is empty, or both: plain TCP.
// Blocking. Errors name the file, and say what to do.
Result<LinkSecurity> load_link_security(const std::string& secret_file, const std::string& certificates);

// Puts TLS over the stream, if there is to be any; it is in its place before the first byte is said, so that whoever
// shuts `stream` down from outside ends this, too. `peer_name`: whose certificate a dialing node wants to see. All that
// is named outlives the task.
io::Task<Status> secure_dialed(io::Loop& loop, std::unique_ptr<io::Stream>& stream, const LinkSecurity& security,
                               const std::string& peer_name);
io::Task<Status> secure_accepted(io::Loop& loop, std::unique_ptr<io::Stream>& stream, const LinkSecurity& security);

// Whether the other side may call itself `node_name`, as far as its certificate goes.
bool may_be(const io::Stream& stream, const LinkSecurity& security, const std::string& node_name);
// "10.0.0.2:7789", with "TLS1.3, pgdata" where it is encrypted.
std::string describe_link(const io::Stream& stream);

}  // namespace lockstep::repl
