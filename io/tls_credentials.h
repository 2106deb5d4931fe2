// The inside of TlsCredentials, for tls.cpp and tls_credentials.cpp.
#pragma once

#include <gnutls/gnutls.h>

#include <map>
#include <string>
#include <vector>

#include "io/tls.h"

namespace lockstep::io {

class GnutlsCredentials final : public TlsCredentials {
 public:
  explicit GnutlsCredentials(TlsRole role) : role_(role) {}
  ~GnutlsCredentials() override;
  GnutlsCredentials(const GnutlsCredentials&) = delete;
  GnutlsCredentials& operator=(const GnutlsCredentials&) = delete;

  Status load(const TlsFiles& files);

  TlsRole role() const { return role_; }
  bool verify_peer() const { return verify_peer_; }
  // A new session with these credentials; the caller ends it with gnutls_deinit.
  Result<gnutls_session_t> make_session() const;

 private:
  Status load_certificates(const std::string& folder);
  Status load_keys(const std::string& path);
  static int find_key(gnutls_session_t session, const gnutls_datum_t* name, gnutls_datum_t* key);

  TlsRole role_;
  bool verify_peer_ = false;
  gnutls_certificate_credentials_t certificates_ = nullptr;
  gnutls_psk_server_credentials_t server_keys_ = nullptr;
  gnutls_psk_client_credentials_t client_keys_ = nullptr;
  std::map<std::string, std::vector<uint8_t>> keys_;  // of a server, by name
  gnutls_priority_t priority_ = nullptr;
};

}  // namespace lockstep::io
