#include "replicator/link_security.h"

#include <algorithm>
#include <utility>

#include "io/base/check.h"

namespace lockstep::repl {
namespace {

io::TlsStream& put_over(io::Loop& loop, std::unique_ptr<io::Stream>& stream,
                        const std::shared_ptr<const io::TlsCredentials>& credentials, const std::string& server_name) {
  std::unique_ptr<io::TlsStream> encrypted = io::TlsStream::make(loop, std::move(stream), credentials, server_name);
  io::TlsStream& tls = *encrypted;
  stream = std::move(encrypted);
  return tls;
}

}  // namespace

Result<LinkSecurity> load_link_security(const std::string& secret_file, const std::string& certificates) {
  LOCKSTEP_CHECK(secret_file.empty() || certificates.empty());
  LinkSecurity security;
  if (secret_file.empty() && certificates.empty()) return security;
  security.by_certificate = !certificates.empty();
  auto dialing = io::TlsCredentials::load(io::TlsRole::Client, {certificates, secret_file, true});
  if (!dialing) return std::move(dialing).error();
  auto listening = io::TlsCredentials::load(io::TlsRole::Server, {certificates, secret_file, security.by_certificate});
  if (!listening) return std::move(listening).error();
  security.dialing = std::move(*dialing);
  security.listening = std::move(*listening);
  return security;
}

io::Task<Status> secure_dialed(io::Loop& loop, std::unique_ptr<io::Stream>& stream, const LinkSecurity& security,
                               const std::string& peer_name) {
  if (security.dialing == nullptr) co_return Status{};
  io::TlsStream& tls = put_over(loop, stream, security.dialing, security.by_certificate ? peer_name : std::string());
  Status status = co_await tls.handshake();
  co_return status;
}

io::Task<Status> secure_accepted(io::Loop& loop, std::unique_ptr<io::Stream>& stream, const LinkSecurity& security) {
  if (security.listening == nullptr) co_return Status{};
  io::TlsStream& tls = put_over(loop, stream, security.listening, {});
  Status status = co_await tls.handshake();
  co_return status;
}

bool may_be(const io::Stream& stream, const LinkSecurity& security, const std::string& node_name) {
  if (!security.by_certificate) return true;
  const auto* tls = dynamic_cast<const io::TlsStream*>(&stream);
  return tls != nullptr && std::ranges::find(tls->peer_names(), node_name) != tls->peer_names().end();
}

std::string describe_link(const io::Stream& stream) {
  const auto* tls = dynamic_cast<const io::TlsStream*>(&stream);
  return stream.peer_description() + (tls == nullptr ? "" : ", " + tls->session_description());
}

}  // namespace lockstep::repl
