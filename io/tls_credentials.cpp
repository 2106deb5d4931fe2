#include "io/tls_credentials.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string_view>
#include <utility>

namespace lockstep::io {
namespace {

constexpr size_t kMaximumKeyFileBytes = size_t{1024} * 1024;
constexpr size_t kMaximumKeyBytes = 512;

Error tls_error(const std::string& what, int code) {
  return Error{ErrorKind::Invalid, 0, what + ": " + gnutls_strerror(code)};
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Empty when it is no key.
std::vector<uint8_t> decode_key(std::string_view hex) {
  std::vector<uint8_t> key;
  if (hex.size() % 2 != 0 || hex.size() > 2 * kMaximumKeyBytes) return {};
  for (size_t i = 0; i < hex.size(); i += 2) {
    const int high = hex_digit(hex[i]);
    const int low = hex_digit(hex[i + 1]);
    if (high < 0 || low < 0) return {};
    key.push_back(static_cast<uint8_t>(high * 16 + low));
  }
  return key;
}

Status check_readable(const std::string& path) {
  if (::access(path.c_str(), R_OK) == 0) return {};
  const int code = errno;
  Error error = system_error("cannot read " + path, code);
  if (code == ENOENT) error.kind = ErrorKind::NotFound;
  return error;
}

// A key that others can read is no secret.
Status check_private(const std::string& path) {
  if (Status status = check_readable(path); !status) return status;
  struct stat about {};
  if (::stat(path.c_str(), &about) != 0) return system_error("cannot look at " + path, errno);
  if ((about.st_mode & (S_IROTH | S_IWOTH)) == 0) return {};
  return Error{ErrorKind::Refused, 0, path + " holds a secret and every user can read it: chmod 600 it"};
}

}  // namespace

Result<std::shared_ptr<const TlsCredentials>> TlsCredentials::load(TlsRole role, const TlsFiles& files) {
  auto credentials = std::make_shared<GnutlsCredentials>(role);
  if (Status status = credentials->load(files); !status) return std::move(status).error();
  return std::shared_ptr<const TlsCredentials>(std::move(credentials));
}

GnutlsCredentials::~GnutlsCredentials() {
  if (certificates_ != nullptr) gnutls_certificate_free_credentials(certificates_);
  if (server_keys_ != nullptr) gnutls_psk_free_server_credentials(server_keys_);
  if (client_keys_ != nullptr) gnutls_psk_free_client_credentials(client_keys_);
  if (priority_ != nullptr) gnutls_priority_deinit(priority_);
  for (auto& [name, key] : keys_) gnutls_memset(key.data(), 0, key.size());
}

Status GnutlsCredentials::load(const TlsFiles& files) {
  verify_peer_ = files.verify_peer;
  if (files.certificates.empty() && files.psk_file.empty()) {
    return Error{ErrorKind::Invalid, 0, "TLS needs a folder of certificates or a file of pre-shared keys"};
  }
  if (!files.certificates.empty()) {
    if (Status status = load_certificates(files.certificates); !status) return status;
  }
  if (!files.psk_file.empty()) {
    if (Status status = load_keys(files.psk_file); !status) return status;
  }
  std::string priority = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2";
  if (!files.psk_file.empty()) priority += ":+ECDHE-PSK:+DHE-PSK:+PSK";
  const int code = gnutls_priority_init(&priority_, priority.c_str(), nullptr);
  if (code < 0) return tls_error("GnuTLS does not take the priorities " + priority, code);
  return {};
}

Status GnutlsCredentials::load_certificates(const std::string& folder) {
  int code = gnutls_certificate_allocate_credentials(&certificates_);
  if (code < 0) return tls_error("cannot make TLS credentials", code);
  const std::string authority = folder + "/ca-cert.pem";
  const std::string own = folder + (role_ == TlsRole::Server ? "/server" : "/client");
  const bool has_own = role_ == TlsRole::Server || ::access((own + "-cert.pem").c_str(), F_OK) == 0;
  const bool needs_authority = role_ == TlsRole::Client || verify_peer_;
  if (needs_authority || ::access(authority.c_str(), F_OK) == 0) {
    if (Status status = check_readable(authority); !status) return status;
    code = gnutls_certificate_set_x509_trust_file(certificates_, authority.c_str(), GNUTLS_X509_FMT_PEM);
    if (code < 0) return tls_error(authority + " holds no certificate", code);
  }
  if (has_own) {
    if (Status status = check_readable(own + "-cert.pem"); !status) return status;
    if (Status status = check_private(own + "-key.pem"); !status) return status;
    code = gnutls_certificate_set_x509_key_file(certificates_, (own + "-cert.pem").c_str(), (own + "-key.pem").c_str(),
                                                GNUTLS_X509_FMT_PEM);
    if (code < 0) return tls_error(own + "-cert.pem and " + own + "-key.pem are no pair", code);
  }
  gnutls_certificate_set_known_dh_params(certificates_, GNUTLS_SEC_PARAM_MEDIUM);
  return {};
}

Status GnutlsCredentials::load_keys(const std::string& path) {
  if (Status status = check_private(path); !status) return status;
  std::ifstream file(path, std::ios::binary);
  std::string line;
  size_t read_bytes = 0;
  for (int number = 1; std::getline(file, line); ++number) {
    const auto bad = [&](const std::string& what) {
      gnutls_memset(line.data(), 0, line.size());
      return Error{ErrorKind::Invalid, 0,
                   path + ":" + std::to_string(number) + ": " + what +
                       ": a line is NAME:KEY, the key in hex digits, as 'psktool -u NAME -p FILE' writes it"};
    };
    read_bytes += line.size() + 1;
    if (read_bytes > kMaximumKeyFileBytes) return bad("the file is too long");
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty()) continue;
    const size_t colon = line.rfind(':');
    if (colon == std::string::npos || colon == 0) return bad("no name");
    std::vector<uint8_t> key = decode_key(std::string_view(line).substr(colon + 1));
    if (key.size() < 16) return bad("no key of at least 16 bytes");
    std::string name = line.substr(0, colon);
    gnutls_memset(line.data(), 0, line.size());
    const auto [place, added] = keys_.emplace(std::move(name), std::move(key));
    if (!added) return bad("the name stands twice");
    if (role_ == TlsRole::Client) break;
  }
  if (file.bad()) return system_error("cannot read " + path, EIO);
  if (keys_.empty())
    return Error{ErrorKind::Invalid, 0, path + " holds no key: 'psktool -u NAME -p " + path + "' adds one"};

  if (role_ == TlsRole::Client) {
    int code = gnutls_psk_allocate_client_credentials(&client_keys_);
    if (code < 0) return tls_error("cannot make TLS credentials", code);
    const auto& [name, key] = *keys_.begin();
    const gnutls_datum_t datum{const_cast<uint8_t*>(key.data()), static_cast<unsigned>(key.size())};
    code = gnutls_psk_set_client_credentials(client_keys_, name.c_str(), &datum, GNUTLS_PSK_KEY_RAW);
    return code < 0 ? Status(tls_error("cannot use the key of " + name, code)) : Status();
  }
  const int code = gnutls_psk_allocate_server_credentials(&server_keys_);
  if (code < 0) return tls_error("cannot make TLS credentials", code);
  gnutls_psk_set_server_credentials_function2(server_keys_, &GnutlsCredentials::find_key);
  gnutls_psk_set_server_known_dh_params(server_keys_, GNUTLS_SEC_PARAM_MEDIUM);
  return {};
}

int GnutlsCredentials::find_key(gnutls_session_t session, const gnutls_datum_t* name, gnutls_datum_t* key) {
  const auto* self = static_cast<const GnutlsCredentials*>(gnutls_db_get_ptr(session));
  const auto found = self->keys_.find(std::string(reinterpret_cast<const char*>(name->data), name->size));
  if (found == self->keys_.end()) return -1;
  key->data = static_cast<unsigned char*>(gnutls_malloc(found->second.size()));
  if (key->data == nullptr) return -1;
  std::memcpy(key->data, found->second.data(), found->second.size());
  key->size = static_cast<unsigned>(found->second.size());
  return 0;
}

Result<gnutls_session_t> GnutlsCredentials::make_session() const {
  gnutls_session_t session = nullptr;
  const unsigned flags = GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL | GNUTLS_NO_TICKETS |
                         (role_ == TlsRole::Server ? GNUTLS_SERVER : GNUTLS_CLIENT);
  int code = gnutls_init(&session, flags);
  if (code < 0) return tls_error("cannot begin TLS", code);
  code = gnutls_priority_set(session, priority_);
  if (code >= 0 && certificates_ != nullptr) {
    code = gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, certificates_);
  }
  if (code >= 0 && server_keys_ != nullptr) code = gnutls_credentials_set(session, GNUTLS_CRD_PSK, server_keys_);
  if (code >= 0 && client_keys_ != nullptr) code = gnutls_credentials_set(session, GNUTLS_CRD_PSK, client_keys_);
  if (code < 0) {
    gnutls_deinit(session);
    return tls_error("cannot begin TLS", code);
  }
  // find_key() is given nothing but the session; no cache of sessions is used, so its pointer is free.
  gnutls_db_set_ptr(session, const_cast<GnutlsCredentials*>(this));
  if (role_ == TlsRole::Server && verify_peer_ && certificates_ != nullptr) {
    gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
  }
  gnutls_handshake_set_timeout(session, 0);  // the caller's business
  return session;
}

}  // namespace lockstep::io
