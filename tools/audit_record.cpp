#include "tools/audit_record.h"

#include <array>
#include <cstdio>
#include <ctime>

namespace lockstep::tools {
namespace {

using nlohmann::json;

std::string dumped(const json& document) {
  return document.dump(-1, ' ', false, json::error_handler_t::replace);
}

// JSON escapes what is below a space; a DEL is a character of its own.
std::string cut(std::string text, size_t bytes) {
  for (char& c : text) {
    if (c == 0x7F) c = '?';
  }
  if (text.size() <= bytes) return text;
  text.resize(bytes);
  return text + "...";
}

json cut_arguments(const json& arguments, size_t bytes) {
  json result = json::object();
  for (const auto& [name, value] : arguments.items()) {
    result[cut(name, 32)] = value.is_string() ? json(cut(value.get<std::string>(), bytes)) : value;
  }
  return result;
}

json object_of(const AuditRecord& record) {
  json object = {{"time", format_stamp(record.stamp_us)},
                 {"stamp", record.stamp_us},
                 {"resource", record.resource},
                 {"node", record.node},
                 {"verb", cut(record.verb, 32)},
                 {"arguments", cut_arguments(record.arguments, 128)},
                 {"accepts-loss", record.accepts_loss},
                 {"result", record.result},
                 {"before", record.before}};
  if (record.user_id) object["uid"] = *record.user_id;
  if (record.login_id) object["login-uid"] = *record.login_id;
  if (!record.user.empty()) object["user"] = cut(record.user, 64);
  if (!record.sudo_user.empty()) object["sudo-user"] = cut(record.sudo_user, 64);
  if (!record.after.is_null()) object["after"] = record.after;
  if (!record.lost.is_null()) object["lost"] = record.lost;
  if (!record.message.empty()) object["message"] = cut(record.message, 600);
  return object;
}

std::string text_of(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::string who(const json& object) {
  std::string text = text_of(object, "user");
  if (object.contains("uid")) text += (text.empty() ? "uid " : "/") + object["uid"].dump();
  const std::string sudo_user = text_of(object, "sudo-user");
  if (!sudo_user.empty()) text += "(" + sudo_user + ")";
  return text.empty() ? "?" : text;
}

std::string state_text(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_object()) return {};
  if (!found->contains("role") && !found->contains("disk-state")) return {};
  return text_of(*found, "role") + "/" + text_of(*found, "disk-state");
}

}  // namespace

std::string format_stamp(uint64_t stamp_us) {
  const auto seconds = static_cast<time_t>(stamp_us / 1'000'000);
  tm parts{};
  ::gmtime_r(&seconds, &parts);
  std::array<char, 32> day{};
  std::strftime(day.data(), day.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  std::array<char, 16> fraction{};
  std::snprintf(fraction.data(), fraction.size(), ".%06uZ", static_cast<unsigned>(stamp_us % 1'000'000));
  return std::string(day.data()) + fraction.data();
}

std::string audit_line(const AuditRecord& record) {
  json object = object_of(record);
  for (const char* key : {"message", "lost", "arguments", "after", "before"}) {
    std::string line = dumped(object);
    if (line.size() <= repl::kMaximumAuditLineBytes) return line;
    object[key] = "cut";
  }
  return dumped(object);
}

std::optional<std::string> audit_line_of_peer(const repl::AuditFrame& frame, const std::string& resource,
                                              const std::string& peer_name) {
  const json object = json::parse(frame.line, nullptr, false);
  if (!object.is_object()) return std::nullopt;
  const auto stamp = object.find("stamp");
  if (stamp == object.end() || !stamp->is_number_unsigned() || stamp->get<uint64_t>() != frame.stamp_us) return {};
  if (text_of(object, "resource") != resource || text_of(object, "node") != peer_name) return std::nullopt;
  return dumped(object);
}

std::string render_audit_line(const std::string& line) {
  const json object = json::parse(line, nullptr, false);
  if (!object.is_object() || !object.contains("stamp")) return {};
  std::string text =
      text_of(object, "time") + " " + text_of(object, "node") + " " + who(object) + " " + text_of(object, "verb");
  const auto arguments = object.find("arguments");
  if (arguments != object.end() && arguments->is_object()) {
    for (const auto& [name, value] : arguments->items()) {
      if (value == json(false)) continue;
      const bool bare = name == "peer";
      text += bare ? "" : " --" + name;
      if (value.is_string()) text += " " + value.get<std::string>();
      if (value.is_number()) text += " " + value.dump();
    }
  }
  text += ": " + text_of(object, "result");
  const std::string before = state_text(object, "before");
  const std::string after = state_text(object, "after");
  if (!before.empty()) text += ", " + before;
  if (!after.empty() && after != before) text += " -> " + after;
  if (object.value("accepts-loss", false)) text += ", accepts a loss";
  if (text_of(object, "result") != "done" && !text_of(object, "message").empty())
    text += ": " + text_of(object, "message");
  return text;
}

}  // namespace lockstep::tools
