// One NBD connection: handshake, requests in, replies out.
//
// Two coroutines. The reader receives requests, many in one receive, and gives them to the backend; it stops reading
// while no slot, no buffer or no admission is to be had. The sender sends what has been completed, all replies of a
// turn of the loop in one system call, in the order of completion.
//
// session.cpp holds the connection's life, session_requests.cpp the reader, session_misfits.cpp what is not aligned to
// the disk's blocks, session_replies.cpp the sender.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/block_backend.h"
#include "io/loop.h"
#include "io/stream.h"
#include "io/task.h"
#include "io/timer.h"
#include "io/tls.h"
#include "nbd-server/buffer_turn.h"
#include "nbd-server/export_table.h"
#include "nbd-server/receive_window.h"
#include "nbd-server/reply_chunks.h"
#include "nbd-server/reply_turn.h"
#include "nbd-server/request_slab.h"
#include "nbd-server/stall_limit.h"

namespace lockstep::nbd {

struct SessionOptions {
  size_t requests_in_flight = 1024;
  // Memory that one client's requests may hold, so that it cannot take all of it; 0: half of the loop's buffers. One
  // request is always admitted.
  size_t bytes_in_flight = 0;
  // From the connection's first byte to the end of the handshake, TLS included.
  uint64_t handshake_limit_ms = 10'000;
  // A client that does not send the payload that it has announced, or does not take the replies that wait for it,
  // holds memory that others need: each payload, and each batch of replies, has so much time. Then the connection ends.
  uint64_t stall_limit_ms = 60'000;
  // The same while somebody waits for memory.
  uint64_t pressed_stall_limit_ms = 5'000;
  // While an export closes: how long a session whose requests are all answered waits for the client to take its leave,
  uint64_t closing_linger_ms = 200;
  // and how long for the client to take the replies.
  uint64_t closing_reply_limit_ms = 2'000;
};

// What all sessions of a server share. Outlives them.
struct SessionServices {
  SessionServices(io::Loop& loop_of_all, ExportTable& table, const SessionOptions& session_options)
      : loop(loop_of_all), exports(table), options(session_options), buffers(loop_of_all), replies(loop_of_all) {
    if (options.bytes_in_flight == 0) options.bytes_in_flight = loop.buffers().arena_bytes() / 2;
  }
  io::Loop& loop;
  ExportTable& exports;
  SessionOptions options;
  BufferTurn buffers;
  ReplyTurn replies;
};

// How a listening address does TLS.
struct TlsTerms {
  TlsMode mode = TlsMode::Off;
  std::shared_ptr<const io::TlsCredentials> credentials;  // there unless Off
};

class Session final : public io::BlockRequestOwner, private io::Runnable {
 public:
  Session(SessionServices& services, std::unique_ptr<io::Stream> stream, TlsTerms tls, bool unix_socket);
  // serve() must have ended, or never have begun.
  ~Session() override;

  // The whole life of the connection; ends when no request of it is in the backend, all memory has been returned and
  // the stream is closed. Gives one line on how it ended, for the log; empty when the client took its leave.
  io::Task<std::string> serve();

  bool in_transmission() const { return export_ != nullptr; }
  const std::string& peer_description() const { return stream_->peer_description(); }
  const ClientIdentity& client() const { return view_.client(); }
  // Ends the connection without ceremony; what is in the backend is still waited for.
  void abort() { stream_->shutdown(); }
  // In transmission: answers new requests with ESHUTDOWN, finishes those in flight, and then ends; see
  // Export::close_sessions. In the handshake: ends shortly.
  void begin_close();

  bool writes_in_flight(uint64_t offset_bytes, uint64_t length_bytes) const;

  // From the backend.
  void completed(io::BlockRequest& block) noexcept override;

 private:
  static constexpr size_t kBatchReplies = 64;
  static constexpr size_t kBatchHeads = kBatchReplies + kMaximumReadChunks;
  struct ReplyBatch {
    std::array<ReplyHead, kBatchHeads> heads;
    std::array<iovec, 2 * kBatchHeads> pieces;
    std::array<RequestSlot*, kBatchReplies> slots;
  };

  // These give false when the connection is over.
  io::Task<bool> negotiate();
  io::Task<bool> start_tls();
  io::Task<bool> fill(size_t bytes, bool just_so_many = false);  // until the window holds so many
  void join(const Negotiation& negotiation);

  // ---- session_requests.cpp ----
  io::Task<void> receive_requests();
  io::Task<bool> refuse(RequestSlot& slot, const RequestVerdict& verdict);
  io::Task<bool> take_payload(std::span<uint8_t> into);
  size_t request_header_bytes() const { return form_ == ReplyForm::Extended ? kExtendedRequestBytes : kRequestBytes; }
  io::Task<bool> receive_payload(std::span<uint8_t> into);
  io::Task<bool> drain(uint64_t bytes);
  io::Task<void> submit(RequestSlot& slot);
  io::Task<bool> answer_block_status(RequestSlot& slot, uint64_t payload_bytes);
  // The slot's buffer: at once, or else to be waited for. Both keep account of it.
  bool try_allocate(RequestSlot& slot, size_t bytes);
  io::Task<void> allocate(RequestSlot& slot, size_t bytes);
  void release_buffer(RequestSlot& slot);
  bool is_misfit(const Request& request) const {
    return ((request.offset_bytes | request.length_bytes) & (block_bytes_ - 1)) != 0;
  }
  bool try_submit(RequestSlot& slot);
  void fill_block(RequestSlot& slot);
  size_t encode_status(const RequestSlot& slot, MetaContextSet contexts, std::span<uint8_t> to);

  // ---- session_misfits.cpp ----
  // What became of a request whose range is not aligned to the disk's blocks.
  enum class Misfit : uint8_t {
    Fits,      // it has been widened (READ) or narrowed (TRIM) to blocks: go on with it
    Answered,  // it has been carried out, or refused
    Over,      // the connection is over
  };
  io::Task<Misfit> serve_misfit(RequestSlot& slot);
  io::Task<bool> write_misfit(RequestSlot& slot);
  io::Task<void> zero_misfit(RequestSlot& slot);
  io::Task<int> replace(uint64_t offset_bytes, std::span<const uint8_t> bytes, bool fua);
  class Step;
  io::Task<int> carry_out(Step& step);

  // ---- session_replies.cpp ----
  io::Task<void> send_replies();
  io::Task<void> finish();
  void run() noexcept override;  // Runnable: the turn has ended and there are replies
  void answer(RequestSlot& slot, WireError error, std::string_view reason);
  void give_back(RequestSlot& slot);
  void count(io::BlockOperation operation, uint64_t length_bytes);
  struct Gathered {
    size_t heads = 0;
    size_t pieces = 0;
    size_t slots = 0;
  };
  Gathered gather();
  size_t gather_read(const RequestSlot& slot, Gathered& gathered);
  void break_off();
  void closing_step();
  void why_ended(std::string_view reason) {
    if (ended_because_.empty()) ended_because_ = reason;
  }

  SessionServices& services_;
  std::unique_ptr<io::Stream> stream_;
  const TlsTerms tls_;
  ExportView view_;
  ReceiveWindow window_;
  std::string ended_because_;

  Export* export_ = nullptr;
  io::BlockBackend* backend_ = nullptr;
  ExportLimits limits_;
  ReplyForm form_ = ReplyForm::Simple;
  bool last_is_long_ = false;  // the last request's payload, which is received where it belongs then
  MetaContextSet contexts_;
  uint32_t block_bytes_ = 1;  // the backend's; limits_ allow smaller ones to a client that does not know block sizes

  std::unique_ptr<RequestSlab> slab_;
  ReplyQueue replies_;
  std::unique_ptr<ReplyBatch> batch_;
  std::vector<uint8_t> staging_;  // one piece of a payload that does not fit blocks
  size_t in_backend_ = 0;
  size_t held_bytes_ = 0;  // of memory, by the slots' buffers
  bool sending_ = false;
  bool broken_ = false;           // nothing can be sent any more
  bool no_more_replies_ = false;  // the sender may end once the queue is empty
  bool closing_ = false;
  bool lingering_ = false;

  io::Signal changed_;        // a slot or memory came back, or the sender ended
  io::Signal replies_ready_;  // for the sender
  bool sender_ended_ = true;
  io::Timer handshake_limit_;
  StallLimit reader_limit_;
  StallLimit sender_limit_;
  io::Timer closing_limit_;
};

}  // namespace lockstep::nbd
