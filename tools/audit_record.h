// What an operator did, as one line of an audit log. Pure.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "replicator/audit_frame.h"

namespace lockstep::tools {

struct AuditRecord {
  uint64_t stamp_us = 0;  // since 1970; unique on its node, and growing
  std::string resource;
  std::string node;                  // where it was ordered
  std::optional<uint32_t> user_id;   // as the kernel knows
  std::optional<uint32_t> login_id;  // the same: who logged in, whatever became of the user id since
  std::string user;                  // as the command says
  std::string sudo_user;             // the same
  std::string verb;
  nlohmann::json arguments;  // an object
  bool accepts_loss = false;
  std::string result;     // "begun" (of what accepts a loss, before it), "done", "failed" or "refused"
  std::string message;    // what the operator was told
  nlohmann::json lost;    // what was said to be lost; null: nothing
  nlohmann::json before;  // states, an object
  nlohmann::json after;   // null of "begun"
};

// "2026-11-26T03:20:11.123456Z"
std::string format_stamp(uint64_t stamp_us);

// One JSON object without a line's end, at most kMaximumAuditLineBytes, and without control characters: what is too
// long is cut, the message first.
std::string audit_line(const AuditRecord& record);

// What a peer sent, as this node records it; nothing unless it is a line of the resource, of that node and stamp.
std::optional<std::string> audit_line_of_peer(const repl::AuditFrame& frame, const std::string& resource,
                                              const std::string& peer_name);

// For people, one line: when, where, who, what, what came of it. Empty when it is no line of an audit log.
std::string render_audit_line(const std::string& line);

}  // namespace lockstep::tools
