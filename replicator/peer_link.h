// The link to one peer: made, kept, and made again. On the loop's thread.
//
// Of two nodes the one whose name sorts first dials, the other listens. Each link that comes up has an incarnation
// of its own, and everything that is said to or heard of a link names it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/address.h"
#include "io/base/result.h"
#include "io/buffer_pool.h"
#include "io/loop.h"
#include "io/signal.h"
#include "io/stream.h"
#include "io/task.h"
#include "io/timer.h"
#include "replicator/core/message.h"
#include "replicator/core/types.h"
#include "replicator/frame_queue.h"
#include "replicator/link_handshake.h"
#include "replicator/link_security.h"
#include "replicator/peer_protocol.h"

namespace lockstep::repl {

// Who uses the links. Calls come from the loop, never from inside a call to a link.
class LinkOwner {
 public:
  virtual ~LinkOwner() = default;
  // Identities were exchanged and match. May send at once.
  virtual void link_established(PeerIndex peer, Incarnation incarnation) noexcept = 0;
  // Nothing of that incarnation arrives any more, and nothing is sent.
  virtual void link_lost(PeerIndex peer, Incarnation incarnation) noexcept = 0;
  // `payload`: of a Write or a ReadReply, all of it, checked. What the message points to is valid during the call.
  virtual void message_arrived(PeerIndex peer, Incarnation incarnation, const Message& message,
                               io::BufferRef payload) noexcept = 0;
  // For the node's audit log; at most kAuditFramesPerLink of a link, and then one a second.
  virtual void audit_frame_arrived(PeerIndex, const AuditFrame&) noexcept {}
  // Back-pressure: while false, no link reads past a Write or WriteZeroes. Notify `write_admission` when it changes.
  virtual bool can_take_write() const = 0;
  virtual io::Signal& write_admission() = 0;
  // Where the payload of a ReadReply is received: not where clients' requests, which wait for it, hold all memory.
  virtual io::BufferPool& read_reply_buffers() = 0;
};

struct LinkOptions {
  uint64_t connect_timeout_ms = 2000;
  uint64_t handshake_timeout_ms = 3000;
  uint64_t first_retry_ms = 100;  // doubled with each failure
  uint64_t last_retry_ms = 2000;
  uint64_t close_timeout_ms = 100;  // how long a link that is being closed tries to send what was queued
  io::StreamOptions stream;
  LinkSecurity security;
};

class PeerLink {
 public:
  // `loop`, `owner` and `self` outlive the link, and the link outlives the loop's run().
  PeerLink(io::Loop& loop, LinkOwner& owner, const LinkIdentity& self, PeerIndex peer, std::string peer_name,
           io::Address peer_address, LinkOptions options);
  PeerLink(const PeerLink&) = delete;
  PeerLink& operator=(const PeerLink&) = delete;

  const std::string& peer_name() const { return peer_name_; }
  bool dials() const { return self_.node_name < peer_name_; }

  // Have a link from now on, for ever again; and: leave the peer alone. Neither ends a link that is there.
  void connect();
  void stop_connecting();
  bool wanted() const { return wanted_; }

  // Queued until flush(). Dropped unless the link has that incarnation and is not being closed.
  void send(Incarnation incarnation, const Message& message, const io::BufferRef& payload, uint32_t payload_checksum);
  // Sent with the next flush(), on the link that is there; dropped without one.
  void send(const AuditFrame& frame);
  // At the end of a turn: what was queued goes out.
  void flush();
  // Sends what is queued, briefly, then ends; link_lost() follows. Nothing is received from now on.
  void close(Incarnation incarnation);

  bool is_established() const { return running_; }
  // Why there is no link, in one line; empty when there is one, or nothing is known yet.
  const std::string& problem() const { return problem_; }
  // Of the link that is there.
  const std::string& remote_description() const { return remote_description_; }

  // For the listener: a stream on which the peer said Hello. Ends with the link.
  io::Task<void> serve(std::unique_ptr<io::Stream> stream, Hello theirs);

 private:
  static constexpr size_t kReceiveBytes = size_t{256} * 1024;
  static constexpr size_t kReceiveInPlaceBytes = size_t{32} * 1024;
  static constexpr size_t kMaximumQueuedFrames = 65536;
  static constexpr uint64_t kAuditFramesPerLink = 128;  // more than a peer of ours has to tell at once

  io::Task<void> dial();
  // Why the attempt failed; returns after a link's end with Status ok.
  io::Task<Status> dial_once();
  io::Task<void> run(io::Stream& stream, uint64_t link_incarnation);
  io::Task<Status> read_frames(io::Stream& stream, uint64_t link_incarnation);
  Status take_audit_frame(const FrameHeader& header, uint64_t began_ms);
  io::Task<Status> receive_more(io::Stream& stream, size_t wanted_bytes);
  io::Task<Status> receive_payload(io::Stream& stream, const FrameHeader& header, io::BufferRef& payload);
  io::Task<void> write_frames(io::Stream& stream);
  void end_now();
  void report(std::string problem);
  void log_link(const char* event, const std::string& what) const;
  std::span<uint8_t> received() { return {receive_memory_.get() + received_from_, received_to_ - received_from_}; }

  io::Loop& loop_;
  LinkOwner& owner_;
  const LinkIdentity& self_;
  const PeerIndex peer_;
  const std::string peer_name_;
  const io::Address peer_address_;
  const LinkOptions options_;

  bool wanted_ = false;
  bool dialing_ = false;  // the task runs
  io::Signal dial_wake_;
  io::Timer retry_timer_;
  uint64_t retry_ms_ = 0;
  uint64_t served_ = 0;  // streams that the peer opened: only the newest goes on

  // The link that is there.
  bool running_ = false;
  bool closing_ = false;  // by us: what is queued is sent, nothing is received
  bool ended_ = false;    // the writer must end
  Incarnation incarnation_ = 0;
  io::Stream* stream_ = nullptr;
  std::string remote_description_;
  std::string end_reason_;
  FrameQueue queue_;
  io::Signal writer_wake_;
  io::Signal run_ended_;
  io::Gate writer_gate_;
  io::Timer close_timer_;
  std::unique_ptr<uint8_t[]> receive_memory_;
  size_t received_from_ = 0;
  size_t received_to_ = 0;
  // What came before the last payload, if that was a long one; else 0.
  size_t in_place_frame_bytes_ = 0;
  uint64_t audit_frames_ = 0;  // that this link brought
  BodyStorage storage_;

  std::string problem_;
  bool short_lived_ = false;  // the last link was: the log need not hear of each
};

}  // namespace lockstep::repl
