// Two ends of a replication link in one process, over loopback; and ends that do not keep the rules.
#include "replicator/peer_link.h"

#include <algorithm>
#include <deque>
#include <random>

#include "io/base/crc32c.h"
#include "replicator/link_listener.h"
#include "tests/unit/replicator/fixtures.h"

using namespace lockstep;
using namespace lockstep::repl;
using namespace lockstep::tests;

namespace {

constexpr uint64_t kDeviceBytes = 256 * kMiB;

struct Arrival {
  Incarnation incarnation;
  Message message;
  std::vector<uint8_t> payload;
};

class End final : public LinkOwner {
 public:
  explicit End(io::Loop& loop) : admission(loop), read_replies(loop.buffers()) {}
  void link_established(PeerIndex, Incarnation incarnation) noexcept override {
    established = incarnation;
    ++times_established;
  }
  void link_lost(PeerIndex, Incarnation incarnation) noexcept override {
    lost = incarnation;
    ++times_lost;
  }
  void message_arrived(PeerIndex, Incarnation incarnation, const Message& message,
                       io::BufferRef payload) noexcept override {
    if (incarnation != established || incarnation == lost) ++out_of_place;
    const auto* write = std::get_if<Write>(&message);
    if (write != nullptr && write->range.length_bytes > payload.size_bytes()) ++out_of_place;
    if (std::holds_alternative<Write>(message) || std::holds_alternative<WriteZeroes>(message)) {
      if (slots == 0) ++out_of_place;
      --slots;
    }
    arrivals.push_back({incarnation, message, {payload.bytes().begin(), payload.bytes().end()}});
  }
  void audit_frame_arrived(PeerIndex, const AuditFrame& frame) noexcept override { audit_frames.push_back(frame); }
  bool can_take_write() const override { return slots > 0; }
  io::Signal& write_admission() override { return admission; }
  io::BufferPool& read_reply_buffers() override { return read_replies; }

  io::Signal admission;
  io::BufferPool& read_replies;
  Incarnation established = 0;
  Incarnation lost = 0;
  int times_established = 0;
  int times_lost = 0;
  int out_of_place = 0;
  int slots = 1'000'000;
  std::deque<Arrival> arrivals;
  std::vector<AuditFrame> audit_frames;
};

LinkOptions quick_options(const LinkSecurity& security = {}) {
  LinkOptions options;
  options.security = security;
  options.first_retry_ms = 2;
  options.last_retry_ms = 10;
  options.handshake_timeout_ms = 5000;
  return options;
}

io::Address loopback(uint16_t port) {
  io::Address address;
  address.host = "127.0.0.1";
  address.port = port;
  return address;
}

const std::string kKey = "pgdata:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
const std::string kOtherKey = "pgdata:ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";

LinkSecurity with_key(const std::string& line) {
  const Folder folder;
  write_file(folder / "key", {line.begin(), line.end()});
  std::filesystem::permissions(folder / "key", std::filesystem::perms::owner_read);
  auto security = load_link_security(folder / "key", "");
  REQUIRE(security);
  return *security;
}

// beta listens, alpha dials: its name sorts first.
struct Pair {
  explicit Pair(LinkIdentity alpha_says = {"pgdata", "alpha", kDeviceBytes},
                LinkIdentity beta_says = {"pgdata", "beta", kDeviceBytes}, const LinkSecurity& of_alpha = {},
                const LinkSecurity& of_beta = {})
      : alpha_identity(std::move(alpha_says)), beta_identity(std::move(beta_says)) {
    beta_links.push_back(std::make_unique<PeerLink>(*loop, beta, beta_identity, PeerIndex{0}, "alpha", loopback(1),
                                                    quick_options(of_beta)));
    auto opened = LinkListener::open(*loop, loopback(0), beta_identity, beta_links, quick_options(of_beta));
    REQUIRE(opened);
    listener = std::move(*opened);
    alpha_link = std::make_unique<PeerLink>(*loop, alpha, alpha_identity, PeerIndex{0}, "beta",
                                            listener->bound_address(), quick_options(of_alpha));
    alpha_link->connect();
    beta_links[0]->connect();
  }
  PeerLink& beta_link() { return *beta_links[0]; }
  bool both_established() const {
    return alpha.times_established > alpha.times_lost && beta.times_established > beta.times_lost;
  }
  io::BufferRef payload(size_t length, uint64_t seed) {
    io::BufferRef buffer = loop->buffers().allocate(length);
    REQUIRE(buffer);
    std::mt19937_64 random(seed);
    for (uint8_t& byte : buffer.bytes()) byte = static_cast<uint8_t>(random());
    return buffer;
  }
  void send_write(PeerLink& link, Incarnation incarnation, Sequence sequence, const io::BufferRef& buffer) {
    link.send(incarnation, Write{sequence, {0, buffer.size_bytes()}, false}, buffer, crc32c(buffer.bytes()));
  }

  std::unique_ptr<io::Loop> loop = make_loop();
  const LinkIdentity alpha_identity;
  const LinkIdentity beta_identity;
  End alpha{*loop};
  End beta{*loop};
  std::vector<std::unique_ptr<PeerLink>> beta_links;
  std::unique_ptr<LinkListener> listener;
  std::unique_ptr<PeerLink> alpha_link;
};

io::Task<void> exchange(Pair& pair) {
  const bool up = co_await becomes_true(*pair.loop, [&] { return pair.both_established(); });
  CO_REQUIRE(up);
  CHECK(pair.alpha_link->problem().empty());
  // Frames with payloads of all kinds of lengths, among frames without, in both directions.
  std::vector<io::BufferRef> sent;
  Sequence sequence = 0;
  for (const size_t length : {size_t{512}, size_t{4096}, size_t{100} * 1024, size_t{200} * 1024, size_t{280} * 1024,
                              size_t{1} << 20, size_t{512}, size_t{2} << 20}) {
    sent.push_back(pair.payload(length, ++sequence));
    pair.send_write(*pair.alpha_link, pair.alpha.established, sequence, sent.back());
    for (int i = 0; i < 100; ++i) pair.alpha_link->send(pair.alpha.established, Ping{sequence}, {}, 0);
  }
  pair.alpha_link->flush();
  for (Sequence i = 1; i <= 1000; ++i)
    pair.beta_link().send(pair.beta.established, Acknowledged{i, i, i, 0, {}}, {}, 0);
  pair.beta_link().flush();
  const bool arrived = co_await becomes_true(
      *pair.loop, [&] { return pair.beta.arrivals.size() == sent.size() * 101 && pair.alpha.arrivals.size() == 1000; });
  CO_REQUIRE(arrived);
  size_t next = 0;
  for (size_t i = 0; i < pair.beta.arrivals.size(); ++i) {
    const Arrival& arrival = pair.beta.arrivals[i];
    if (i % 101 != 0) {
      CHECK(std::get<Ping>(arrival.message).stamp_us == next);
      continue;
    }
    const io::BufferRef& expected = sent[next++];
    CHECK(std::get<Write>(arrival.message).sequence == next);
    CHECK(std::equal(expected.bytes().begin(), expected.bytes().end(), arrival.payload.begin(), arrival.payload.end()));
  }
  for (Sequence i = 1; i <= 1000; ++i) {
    CHECK(std::get<Acknowledged>(pair.alpha.arrivals[i - 1].message).received_through == i);
  }
  CHECK(pair.beta.out_of_place == 0);
  // The buffers are the sender's alone again.
  for (const io::BufferRef& buffer : sent) CHECK(buffer.references() == 1);
}

// Received where they belong, with the beginning of what follows: which is short, or long, or longer than a write's
// frame.
io::Task<void> exchange_long(Pair& pair) {
  const bool up = co_await becomes_true(*pair.loop, [&] { return pair.both_established(); });
  CO_REQUIRE(up);
  std::vector<io::BufferRef> sent;
  std::mt19937 random(3);
  size_t messages = 0;
  for (Sequence sequence = 1; sequence <= 60; ++sequence) {
    const std::array<size_t, 5> lengths{512, 32 * kKiB, 64 * kKiB, 64 * kKiB, 200 * kKiB};
    sent.push_back(pair.payload(lengths[random() % lengths.size()], sequence));
    pair.send_write(*pair.alpha_link, pair.alpha.established, sequence, sent.back());
    ++messages;
    if (random() % 4 != 0) continue;
    pair.alpha_link->send(pair.alpha.established, GenerationStored{Generation{sequence, 1}}, {}, 0);
    pair.alpha_link->send(pair.alpha.established, GenerationChanged{Generation{sequence, 2}, {}, 0}, {}, 0);
    messages += 2;
  }
  pair.alpha_link->flush();
  const bool arrived = co_await becomes_true(*pair.loop, [&] { return pair.beta.arrivals.size() == messages; });
  CO_REQUIRE(arrived);
  Sequence last = 0;
  for (const Arrival& arrival : pair.beta.arrivals) {
    if (const auto* write = std::get_if<Write>(&arrival.message)) {
      CHECK(write->sequence == ++last);
      const io::BufferRef& expected = sent[last - 1];
      CHECK(
          std::equal(expected.bytes().begin(), expected.bytes().end(), arrival.payload.begin(), arrival.payload.end()));
    } else if (const auto* changed = std::get_if<GenerationChanged>(&arrival.message)) {
      CHECK(changed->current == Generation{last, 2});
    }
  }
  CHECK(last == sent.size());
}

io::Task<void> says_how_it_is_encrypted(Pair& pair) {
  const bool up = co_await becomes_true(*pair.loop, [&] { return pair.both_established(); });
  CO_REQUIRE(up);
  CHECK(pair.alpha_link->remote_description().ends_with(", TLS1.3"));
  CHECK(pair.beta_link().remote_description().ends_with(", TLS1.3, pgdata"));
}

io::Task<void> last_words(Pair& pair) {
  const bool up = co_await becomes_true(*pair.loop, [&] { return pair.both_established(); });
  CO_REQUIRE(up);
  const io::BufferRef buffer = pair.payload(1 << 20, 1);
  const Incarnation first = pair.alpha.established;
  pair.send_write(*pair.alpha_link, first, 1, buffer);
  pair.alpha_link->send(first, Goodbye{GoodbyeReason::Disconnecting, true}, {}, 0);
  pair.alpha_link->stop_connecting();
  pair.alpha_link->close(first);
  pair.alpha_link->send(first, Ping{1}, {}, 0);  // too late
  CHECK(pair.alpha.times_lost == 0);             // never from inside close()
  const bool down =
      co_await becomes_true(*pair.loop, [&] { return pair.alpha.times_lost == 1 && pair.beta.times_lost == 1; });
  CO_REQUIRE(down);
  CO_REQUIRE(pair.beta.arrivals.size() == 2);
  CHECK(pair.beta.arrivals[0].payload.size() == buffer.size_bytes());
  CHECK(std::get<Goodbye>(pair.beta.arrivals[1].message).continues_alone);
  CHECK_FALSE(pair.alpha_link->is_established());
  // And again, under another incarnation: what is for the old one does not go out.
  pair.alpha_link->connect();
  const bool again = co_await becomes_true(*pair.loop, [&] { return pair.both_established(); });
  CO_REQUIRE(again);
  CHECK(pair.alpha.established > first);
  pair.alpha_link->send(first, Ping{2}, {}, 0);
  pair.alpha_link->send(pair.alpha.established, Ping{3}, {}, 0);
  pair.alpha_link->flush();
  const bool arrived = co_await becomes_true(*pair.loop, [&] { return pair.beta.arrivals.size() == 3; });
  CO_REQUIRE(arrived);
  CHECK(std::get<Ping>(pair.beta.arrivals[2].message).stamp_us == 3);
}

// They come between messages, which they leave alone, and no more of them than anybody has to tell.
io::Task<void> audit_lines(Pair& pair) {
  const bool up = co_await becomes_true(*pair.loop, [&] { return pair.both_established(); });
  CO_REQUIRE(up);
  pair.beta_link().send(AuditFrame{FrameKind::AuditWanted, 7, ""});
  pair.beta_link().flush();
  for (uint64_t stamp = 1; stamp <= 1000; ++stamp) {
    pair.alpha_link->send(AuditFrame{FrameKind::AuditLine, stamp, "{}"});
    pair.alpha_link->send(pair.alpha.established, Ping{stamp}, {}, 0);
  }
  pair.alpha_link->flush();
  const bool arrived = co_await becomes_true(
      *pair.loop, [&] { return pair.beta.arrivals.size() == 1000 && pair.alpha.audit_frames.size() == 1; });
  CO_REQUIRE(arrived);
  CHECK(pair.alpha.audit_frames[0] == AuditFrame{FrameKind::AuditWanted, 7, ""});
  CHECK(pair.beta.audit_frames.size() >= 128);
  CHECK(pair.beta.audit_frames.size() < 200);
  CHECK(pair.beta.audit_frames.back().stamp_us == pair.beta.audit_frames.size());
  CHECK(pair.both_established());
}

io::Task<void> back_pressure(Pair& pair) {
  const bool up = co_await becomes_true(*pair.loop, [&] { return pair.both_established(); });
  CO_REQUIRE(up);
  pair.beta.slots = 3;
  for (Sequence i = 1; i <= 20; ++i)
    pair.send_write(*pair.alpha_link, pair.alpha.established, i, pair.payload(4096, i));
  pair.alpha_link->flush();
  const bool three = co_await becomes_true(*pair.loop, [&] { return pair.beta.arrivals.size() == 3; });
  CO_REQUIRE(three);
  // Whatever comes now waits in front of the fourth write.
  for (int i = 0; i < 20; ++i) co_await pair.loop->sleep_ms(1);
  CHECK(pair.beta.arrivals.size() == 3);
  pair.beta.slots = 17;
  pair.beta.admission.notify_all();
  const bool all = co_await becomes_true(*pair.loop, [&] { return pair.beta.arrivals.size() == 20; });
  CHECK(all);
  // A link that waits for a slot can still be closed.
  pair.send_write(*pair.alpha_link, pair.alpha.established, 21, pair.payload(4096, 21));
  pair.alpha_link->flush();
  pair.beta_link().close(pair.beta.established);
  const bool down = co_await becomes_true(*pair.loop, [&] { return pair.beta.times_lost == 1; });
  CHECK(down);
  CHECK(pair.beta.arrivals.size() == 20);
  CHECK(pair.beta.out_of_place == 0);
}

io::Task<void> refused(Pair& pair, std::string words) {
  const bool told =
      co_await becomes_true(*pair.loop, [&] { return pair.alpha_link->problem().find(words) != std::string::npos; });
  INFO(pair.alpha_link->problem());
  CHECK(told);
  CHECK(pair.alpha.times_established == 0);
  CHECK(pair.beta.times_established == 0);
}

// A peer by hand.
struct RawPeer {
  std::unique_ptr<io::Stream> stream;
  uint64_t incarnation = 0;
  uint64_t next_number = 1;

  std::vector<uint8_t> frame(const Message& message, PayloadDescription payload = {}) {
    std::vector<uint8_t> bytes(kMaximumFrameBytes);
    bytes.resize(encode_message(message, incarnation, next_number++, payload, bytes));
    return bytes;
  }
};

io::Task<Result<RawPeer>> greet_as_alpha(Pair& pair) {
  Result<std::unique_ptr<io::Stream>> connected =
      co_await io::connect_stream(*pair.loop, pair.listener->bound_address(), 5000);
  if (!connected) co_return connected.error();
  RawPeer peer;
  peer.stream = std::move(*connected);
  Hello ours = make_hello(pair.alpha_identity, "beta", 77);
  const Status sent = co_await send_hello(*peer.stream, ours);
  if (!sent) co_return sent.error();
  const Result<Hello> theirs = co_await receive_hello(*peer.stream);
  if (!theirs) co_return theirs.error();
  peer.incarnation = link_incarnation(77, theirs->incarnation_half);
  co_return peer;
}

enum class Offence { None, FlippedHeader, FlippedPayload, Gap, Repeat, OldIncarnation, Garbage, Truncated };

io::Task<void> offend(Pair& pair, Offence offence) {
  Result<RawPeer> greeted = co_await greet_as_alpha(pair);
  CO_REQUIRE(greeted);
  RawPeer peer = std::move(*greeted);
  const std::vector<uint8_t> payload(8192, 0x5A);
  std::vector<uint8_t> good = peer.frame(Ping{1});
  std::vector<uint8_t> bytes =
      peer.frame(Write{1, {0, payload.size()}, false}, {static_cast<uint32_t>(payload.size()), crc32c(payload)});
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  switch (offence) {
    case Offence::None:
      break;
    case Offence::FlippedHeader:
      bytes[50] ^= 1;
      break;
    case Offence::FlippedPayload:
      bytes.back() ^= 1;
      break;
    case Offence::Gap:
      peer.next_number = 9;
      bytes = peer.frame(Ping{2});
      break;
    case Offence::Repeat:
      bytes = good;
      break;
    case Offence::OldIncarnation:
      --peer.next_number;
      ++peer.incarnation;
      bytes = peer.frame(Ping{2});
      break;
    case Offence::Garbage:
      bytes.assign(500, 0xEE);
      break;
    case Offence::Truncated:
      bytes.resize(bytes.size() - 100);
      break;
  }
  good.insert(good.end(), bytes.begin(), bytes.end());
  const Status sent = co_await peer.stream->write_all(good);
  CO_REQUIRE(sent);
  if (offence == Offence::Truncated) peer.stream->shutdown_writing();
  if (offence != Offence::None) {
    const bool lost = co_await becomes_true(*pair.loop, [&] { return pair.beta.times_lost == 1; });
    CHECK(lost);
  }
  const bool arrived = co_await becomes_true(
      *pair.loop, [&] { return pair.beta.arrivals.size() == (offence == Offence::None ? 2U : 1U); });
  CHECK(arrived);  // the Ping came, and nothing of what is wrong
  peer.stream->shutdown();
}

io::Task<void> second_call(Pair& pair) {
  Result<RawPeer> first = co_await greet_as_alpha(pair);
  CO_REQUIRE(first);
  const bool up = co_await becomes_true(*pair.loop, [&] { return pair.beta.times_established == 1; });
  CO_REQUIRE(up);
  Result<RawPeer> second = co_await greet_as_alpha(pair);
  CO_REQUIRE(second);
  const bool moved =
      co_await becomes_true(*pair.loop, [&] { return pair.beta.times_established == 2 && pair.beta.times_lost == 1; });
  CHECK(moved);
  CHECK(pair.beta.lost < pair.beta.established);
  std::vector<uint8_t> ping = second->frame(Ping{5});
  const Status sent = co_await second->stream->write_all(ping);
  CHECK(sent);
  const bool arrived = co_await becomes_true(*pair.loop, [&] { return pair.beta.arrivals.size() == 1; });
  CHECK(arrived);
  first->stream->shutdown();
  second->stream->shutdown();
}

}  // namespace

TEST_CASE("messages and payloads arrive whole and in order, in both directions") {
  Pair pair;
  run_to_end(*pair.loop, exchange(pair));
}

TEST_CASE("long payloads one behind the other arrive whole, and what is between them") {
  Pair pair;
  run_to_end(*pair.loop, exchange_long(pair));
}

TEST_CASE("a link with a shared key carries the same, and says so") {
  const LinkSecurity shared = with_key(kKey);
  {
    Pair pair({"pgdata", "alpha", kDeviceBytes}, {"pgdata", "beta", kDeviceBytes}, shared, shared);
    run_to_end(*pair.loop, exchange(pair));
  }
  Pair pair({"pgdata", "alpha", kDeviceBytes}, {"pgdata", "beta", kDeviceBytes}, shared, shared);
  run_to_end(*pair.loop, says_how_it_is_encrypted(pair));
}

TEST_CASE("a peer with another key, or with none, gets no link and both sides know why") {
  const LinkIdentity alpha{"pgdata", "alpha", kDeviceBytes};
  const LinkIdentity beta{"pgdata", "beta", kDeviceBytes};
  {
    Pair pair(alpha, beta, with_key(kKey), with_key(kOtherKey));
    run_to_end(*pair.loop, refused(pair, "has that node the same 'secret-file'"));
  }
  {
    Pair pair(alpha, beta, with_key(kKey), {});
    run_to_end(*pair.loop, refused(pair, "has that node the same 'secret-file'"));
  }
  Pair pair(alpha, beta, {}, with_key(kKey));
  run_to_end(*pair.loop, refused(pair, "has that node a 'secret-file'"));
}

TEST_CASE("a link that is closed delivers its last words, and comes up again as another") {
  Pair pair;
  run_to_end(*pair.loop, last_words(pair));
}

TEST_CASE("lines for the audit log pass between messages, and not without end") {
  Pair pair;
  run_to_end(*pair.loop, audit_lines(pair));
}

TEST_CASE("writes that find no slot are not read") {
  Pair pair;
  run_to_end(*pair.loop, back_pressure(pair));
}

TEST_CASE("a peer of another resource, size or name is refused, and both sides know why") {
  const auto check = [](LinkIdentity alpha, LinkIdentity beta, const std::string& words) {
    Pair pair(std::move(alpha), std::move(beta));
    run_to_end(*pair.loop, refused(pair, words));
  };
  check({"pgdata", "alpha", kDeviceBytes}, {"other", "beta", kDeviceBytes}, "beta has resource other");
  check({"pgdata", "alpha", kDeviceBytes}, {"pgdata", "beta", kDeviceBytes + 4096},
        "on beta the size is 268439552 bytes, on alpha 268435456");
  check({"pgdata", "adam", kDeviceBytes}, {"pgdata", "beta", kDeviceBytes}, "no node adam");
  check({"pgdata", "alpha", kDeviceBytes}, {"pgdata", "bert", kDeviceBytes}, "this is bert");
}

TEST_CASE("a node that was told to leave its peer alone takes no call") {
  Pair pair;
  pair.beta_link().stop_connecting();
  run_to_end(*pair.loop, refused(pair, "does not want a link with alpha now"));
}

TEST_CASE("bytes that break the rules end the link, and nothing of them arrives") {
  for (const Offence offence : {Offence::None, Offence::FlippedHeader, Offence::FlippedPayload, Offence::Gap,
                                Offence::Repeat, Offence::OldIncarnation, Offence::Garbage, Offence::Truncated}) {
    INFO(static_cast<int>(offence));
    Pair pair;
    pair.alpha_link->stop_connecting();
    run_to_end(*pair.loop, offend(pair, offence));
  }
}

TEST_CASE("a second call of the peer takes the place of the first") {
  Pair pair;
  pair.alpha_link->stop_connecting();
  run_to_end(*pair.loop, second_call(pair));
}
