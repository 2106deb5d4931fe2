// The handshake. The first byte chooses the server's mode, the second how the rest arrives in pieces.
#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/base/check.h"
#include "nbd-server/negotiation.h"

namespace lockstep::nbd {
namespace {

class Exports final : public ExportDirectory {
 public:
  explicit Exports(bool stopping) : stopping_(stopping) {}
  std::vector<ExportOffer> list() const override { return {offer("a"), offer("b"), offer("c")}; }
  std::optional<ExportOffer> find(std::string_view name) const override {
    if (name.empty()) return offer("a");
    if (name == "a" || name == "b" || name == "c") return offer(std::string(name));
    return std::nullopt;
  }
  bool shutting_down() const override { return stopping_; }

 private:
  static ExportOffer offer(const std::string& name) {
    ExportOffer offer;
    offer.name = name;
    offer.description = name == "a" ? "the first" : "";
    offer.refused = name == "b";
    offer.refusal = "no";
    offer.tls_only = name == "c";
    offer.limits.size_bytes = 1 << 20;
    offer.contexts = {MetaContext::Allocation, MetaContext::Dirty};
    return offer;
  }
  bool stopping_;
};

void run(std::span<const uint8_t> input) {
  if (input.size() < 2) return;
  const Exports exports((input[0] & 4) != 0);
  Negotiation machine(exports, static_cast<TlsMode>(input[0] % 3));
  const size_t piece = 1 + size_t{input[1]} * 16;
  std::span<const uint8_t> left = input.subspan(2);
  size_t offered = std::min(left.size(), piece);
  std::vector<uint8_t> reply;
  for (;;) {
    reply.clear();
    const Negotiation::Phase before = machine.phase();
    const size_t taken = machine.advance(left.first(offered), reply);
    LOCKSTEP_CHECK(taken <= offered);
    LOCKSTEP_CHECK(reply.size() <= 64 * 1024);
    left = left.subspan(taken);
    offered -= taken;
    switch (machine.phase()) {
      case Negotiation::Phase::StartTls:
        LOCKSTEP_CHECK(!reply.empty());
        machine.tls_started();
        LOCKSTEP_CHECK(machine.reply_form() == ReplyForm::Simple && machine.contexts().empty());
        continue;
      case Negotiation::Phase::Transmission:
        LOCKSTEP_CHECK(!machine.agreed_export().refused && before == Negotiation::Phase::Options);
        LOCKSTEP_CHECK(machine.contexts().empty() || machine.reply_form() != ReplyForm::Simple);
        return;
      case Negotiation::Phase::Ended:
        return;
      default:
        break;
    }
    if (taken > 0) continue;
    // It asks for more, and must not ask for more than a caller can hold.
    LOCKSTEP_CHECK(offered < kNegotiationWindowBytes);
    if (offered == left.size()) return;
    offered = std::min(left.size(), offered + piece);
  }
}

}  // namespace
}  // namespace lockstep::nbd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  lockstep::nbd::run({data, size});
  return 0;
}
