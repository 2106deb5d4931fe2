// The handshake of one NBD connection (fixed newstyle) as a machine: bytes in, bytes out, no I/O. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nbd-server/meta_context.h"
#include "nbd-server/request_validation.h"
#include "nbd-server/wire.h"

namespace lockstep::nbd {

// One export as a client may see it at this moment.
struct ExportOffer {
  std::string name;
  std::string description;
  bool refused = false;
  std::string refusal;    // why, in words for the client's user
  bool tls_only = false;  // a client without TLS is sent to it first
  ExportLimits limits;    // meaningless while refused, as is:
  MetaContextSet contexts;
};

// The exports as one client may see them: the machine answers from it. Asked anew for each option.
class ExportDirectory {
 public:
  virtual ~ExportDirectory() = default;
  virtual std::vector<ExportOffer> list() const = 0;
  // The empty name stands for the default export.
  virtual std::optional<ExportOffer> find(std::string_view name) const = 0;
  // No option but ABORT is carried out any more.
  virtual bool shutting_down() const { return false; }
};

enum class TlsMode : uint8_t {
  Off,      // STARTTLS is refused
  On,       // STARTTLS is offered; exports that are tls_only need it
  Require,  // nothing but STARTTLS and ABORT before TLS
};

// The longest option data that is looked at. Longer data is skipped and answered with ERR_TOO_BIG; data longer than
// kMaximumSkippedOptionBytes, or more options than kMaximumOptions, end the connection.
inline constexpr size_t kMaximumOptionBytes = 16 * 1024;
inline constexpr size_t kMaximumSkippedOptionBytes = 1024 * 1024;
inline constexpr unsigned kMaximumOptions = 1000;
// A caller that can hold this many unconsumed bytes can hold whatever advance() waits for.
inline constexpr size_t kNegotiationWindowBytes = kOptionHeaderBytes + kMaximumOptionBytes;

// The flags that an export with these limits has, for replies in that form.
uint16_t transmission_flags(const ExportLimits& limits, ReplyForm form);

class Negotiation {
 public:
  enum class Phase : uint8_t {
    ClientFlags,   // the client's 4 bytes of flags come next
    Options,       // an option comes next
    Skipping,      // inside the data of an option that is too big
    StartTls,      // send the reply; then TLS begins on the connection, and tls_started() goes on in Options
    Transmission,  // agreed: requests come next. See agreed_export(), reply_form()
    Ended,         // send what there is to send, then close. See why_ended()
  };

  // The directory must outlive the machine.
  explicit Negotiation(const ExportDirectory& directory, TlsMode tls_mode = TlsMode::Off)
      : directory_(&directory), tls_mode_(tls_mode) {}

  // The server speaks first: appends the greeting to `reply`. Once, before advance().
  static void greet(std::vector<uint8_t>& reply);

  // Takes the client's flags, or at most one option, from the front of `received` and appends what to send to
  // `reply`; send it before the next call. Returns how many bytes were taken: 0 means that more are needed (or that
  // the handshake is over). Bytes that are left once phase() is Transmission belong to the first request.
  size_t advance(std::span<const uint8_t> received, std::vector<uint8_t>& reply);

  // In StartTls, once the connection is encrypted: nothing that was negotiated before holds any more.
  void tls_started();

  Phase phase() const { return phase_; }
  // In Transmission: what was agreed.
  const ExportOffer& agreed_export() const { return agreed_export_; }
  ReplyForm reply_form() const { return form_; }
  // What BLOCK_STATUS tells; empty when nothing was selected for this export.
  MetaContextSet contexts() const { return contexts_; }
  // The client knows the block sizes and is bound to them.
  bool block_sizes_agreed() const { return block_sizes_agreed_; }
  // In Ended: one line for the log; empty when the client took its leave.
  std::string_view why_ended() const { return why_ended_; }

 private:
  size_t take_client_flags(std::span<const uint8_t> received);
  void answer(Option option, std::span<const uint8_t> data, std::vector<uint8_t>& reply);
  void answer_export_name(std::span<const uint8_t> data, std::vector<uint8_t>& reply);
  void answer_list(std::span<const uint8_t> data, std::vector<uint8_t>& reply);
  void answer_info_or_go(Option option, std::span<const uint8_t> data, std::vector<uint8_t>& reply);
  void answer_structured_reply(std::span<const uint8_t> data, std::vector<uint8_t>& reply);
  void answer_extended_headers(std::span<const uint8_t> data, std::vector<uint8_t>& reply);
  void answer_meta_context(Option option, std::span<const uint8_t> data, std::vector<uint8_t>& reply);
  void answer_start_tls(std::span<const uint8_t> data, std::vector<uint8_t>& reply);
  // True when TLS has to come first: then that is answered.
  bool tls_is_missing(Option option, std::vector<uint8_t>& reply);
  // The export for an option that names one, or nothing: then why not is answered.
  std::optional<ExportOffer> find_export(Option option, std::string_view name, std::vector<uint8_t>& reply);
  MetaContextSet contexts_for(const ExportOffer& offer) const {
    return selection_export_ == offer.name ? selection_ : MetaContextSet();
  }
  void enter(ExportOffer offer, bool block_sizes_agreed);
  void end(std::string_view why) {
    phase_ = Phase::Ended;
    why_ended_ = why;
  }

  const ExportDirectory* directory_;
  TlsMode tls_mode_;
  bool secure_ = false;
  Phase phase_ = Phase::ClientFlags;
  bool no_zeroes_ = false;
  ReplyForm form_ = ReplyForm::Simple;
  unsigned options_ = 0;
  uint32_t skipped_option_ = 0;
  size_t skip_left_bytes_ = 0;
  MetaContextSet selection_;      // of the last SET_META_CONTEXT, which was for the export of this name
  std::string selection_export_;  // empty: none
  ExportOffer agreed_export_;
  MetaContextSet contexts_;
  bool block_sizes_agreed_ = false;
  std::string_view why_ended_;  // static storage
};

}  // namespace lockstep::nbd
