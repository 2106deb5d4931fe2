// TLS over a Stream, by GnuTLS: 1.2 and 1.3, X.509 and pre-shared keys. GnuTLS works on memory only; the bytes travel
// through the stream below, so that nothing blocks.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "io/base/result.h"
#include "io/stream.h"
#include "io/task.h"

namespace lockstep::io {

enum class TlsRole : uint8_t { Server, Client };

// What this side shows, and what it asks of the other. Files are named as nbdkit, libnbd and QEMU name them.
struct TlsFiles {
  // A folder with ca-cert.pem and, of a server, server-cert.pem and server-key.pem, or, of a client that has a
  // certificate, client-cert.pem and client-key.pem. Empty: no certificates.
  std::string certificates;
  // "NAME:HEX-KEY", a line each, as psktool writes it; of a client, of which the first line counts. Empty: none.
  std::string psk_file;
  // Server: a client must show a certificate that ca-cert.pem vouches for, or know a pre-shared key.
  bool verify_peer = false;
};

// Loaded once, used by any number of streams, and outlives them.
class TlsCredentials {
 public:
  // Blocking. Errors name the file, and say what to do; keys are in no message.
  static Result<std::shared_ptr<const TlsCredentials>> load(TlsRole role, const TlsFiles& files);
  virtual ~TlsCredentials() = default;

 protected:
  TlsCredentials() = default;
};

class TlsStream : public Stream {
 public:
  // Takes over the stream below, on which nothing is going on. `server_name`: whom a client expects the certificate to
  // be of.
  static std::unique_ptr<TlsStream> make(Loop& loop, std::unique_ptr<Stream> below,
                                         std::shared_ptr<const TlsCredentials> credentials,
                                         const std::string& server_name = {});

  // First of all, once. Refused, with the reason, when the other side is not who it should be or speaks no TLS.
  // Unbounded in time: shutdown() ends it.
  virtual Task<Status> handshake() = 0;

  // Who the other side is, as proved in the handshake: the common name and DNS names of its certificate, where one was
  // asked for, or the name of its pre-shared key.
  virtual const std::vector<std::string>& peer_names() const = 0;
  // "TLS1.3, alice": for logs.
  virtual const std::string& session_description() const = 0;
};

}  // namespace lockstep::io
