// One NBD connection: handshake, requests in, replies out.
//
// Two coroutines. The reader receives requests, many in one receive, and gives them to the backend; it stops reading
// while no slot, no buffer or no admission is to be had. The sender sends what has been completed, all replies of a
// turn of the loop in one system call, in the order of completion.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "io/block_backend.h"
#include "io/loop.h"
#include "io/stream.h"
#include "io/task.h"
#include "io/timer.h"
#include "nbd-server/buffer_turn.h"
#include "nbd-server/export_table.h"
#include "nbd-server/receive_window.h"
#include "nbd-server/reply_turn.h"
#include "nbd-server/request_slab.h"

namespace lockstep::nbd {

struct SessionOptions {
  size_t requests_in_flight = 256;
  // From the connection's first byte to the end of the handshake.
  uint64_t handshake_limit_ms = 10'000;
  // A client that does not send the payload that it has announced, or does not take the replies that wait for it,
  // holds memory that others need: each payload, and each batch of replies, has so much time. Then the connection ends.
  uint64_t stall_limit_ms = 60'000;
  // While an export closes: how long a session whose requests are all answered waits for the client to take its leave,
  uint64_t closing_linger_ms = 200;
  // and how long for the client to take the replies.
  uint64_t closing_reply_limit_ms = 2'000;
};

// What all sessions of a server share. Outlives them.
struct SessionServices {
  SessionServices(io::Loop& loop_of_all, ExportTable& table, const SessionOptions& session_options)
      : loop(loop_of_all), exports(table), options(session_options), buffers(loop_of_all), replies(loop_of_all) {}
  io::Loop& loop;
  ExportTable& exports;
  SessionOptions options;
  BufferTurn buffers;
  ReplyTurn replies;
};

class Session final : public io::BlockRequestOwner, private io::Runnable {
 public:
  Session(SessionServices& services, std::unique_ptr<io::Stream> stream);
  // serve() must have ended, or never have begun.
  ~Session() override;

  // The whole life of the connection; ends when no request of it is in the backend, all memory has been returned and
  // the stream is closed. Gives one line on how it ended, for the log; empty when the client took its leave.
  io::Task<std::string> serve();

  bool in_transmission() const { return export_ != nullptr; }
  const std::string& peer_description() const { return stream_->peer_description(); }
  // Ends the connection without ceremony; what is in the backend is still waited for.
  void abort() { stream_->shutdown(); }
  // Answers new requests with ESHUTDOWN, finishes those in flight, and then ends. See Export::close_sessions.
  void begin_close();

  // From the backend.
  void completed(io::BlockRequest& block) noexcept override;

 private:
  static constexpr size_t kBatchReplies = 64;
  struct ReplyBatch {
    std::array<ReplyHead, kBatchReplies> heads;
    std::array<iovec, 2 * kBatchReplies> pieces;
    std::array<RequestSlot*, kBatchReplies> slots;
  };

  // Both give false when the connection is over.
  io::Task<bool> negotiate();
  io::Task<bool> fill(size_t bytes);  // until the window holds so many

  io::Task<void> receive_requests();
  io::Task<bool> receive_payload(std::span<uint8_t> into);
  io::Task<bool> drain(uint64_t bytes);
  io::Task<void> submit(RequestSlot& slot);
  io::Task<void> send_replies();
  io::Task<void> finish();

  void run() noexcept override;  // Runnable: the turn has ended and there are replies
  void answer(RequestSlot& slot, WireError error, std::string_view reason);
  void give_back(RequestSlot& slot);
  bool try_submit(RequestSlot& slot);
  void count(const io::BlockRequest& block);
  struct Gathered {
    size_t pieces = 0;
    size_t slots = 0;
  };
  Gathered gather();
  void break_off();
  void closing_step();
  void why_ended(std::string_view reason) {
    if (ended_because_.empty()) ended_because_ = reason;
  }

  SessionServices& services_;
  std::unique_ptr<io::Stream> stream_;
  ReceiveWindow window_;
  std::string ended_because_;

  Export* export_ = nullptr;
  io::BlockBackend* backend_ = nullptr;
  ExportLimits limits_;
  ReplyForm form_ = ReplyForm::Simple;

  std::unique_ptr<RequestSlab> slab_;
  ReplyQueue replies_;
  std::unique_ptr<ReplyBatch> batch_;
  size_t in_backend_ = 0;
  bool sending_ = false;
  bool broken_ = false;           // nothing can be sent any more
  bool no_more_replies_ = false;  // the sender may end once the queue is empty
  bool closing_ = false;
  bool lingering_ = false;

  io::Signal changed_;        // a slot came back, or the sender ended
  io::Signal replies_ready_;  // for the sender
  bool sender_ended_ = true;
  io::Timer reader_limit_;  // of the handshake, then of each payload
  io::Timer sender_limit_;
  io::Timer closing_limit_;
};

}  // namespace lockstep::nbd
