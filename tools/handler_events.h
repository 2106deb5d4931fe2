// What a node tells of by running a command: the keys of [handlers].
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace lockstep::tools {

enum class HandlerEvent : uint8_t {
  BeforeResyncTarget,
  AfterResyncTarget,
  SplitBrain,
  PeerLost,
  PeerConnected,
  LocalIoError,
  Promoted,
  Demoted,
  Suspended,
  Resumed
};
inline constexpr size_t kHandlerEventCount = 10;
inline constexpr std::array<HandlerEvent, kHandlerEventCount> kHandlerEvents{
    HandlerEvent::BeforeResyncTarget, HandlerEvent::AfterResyncTarget,
    HandlerEvent::SplitBrain,         HandlerEvent::PeerLost,
    HandlerEvent::PeerConnected,      HandlerEvent::LocalIoError,
    HandlerEvent::Promoted,           HandlerEvent::Demoted,
    HandlerEvent::Suspended,          HandlerEvent::Resumed};

constexpr std::string_view name_of(HandlerEvent event) {
  switch (event) {
    case HandlerEvent::BeforeResyncTarget:
      return "before-resync-target";
    case HandlerEvent::AfterResyncTarget:
      return "after-resync-target";
    case HandlerEvent::SplitBrain:
      return "split-brain";
    case HandlerEvent::PeerLost:
      return "peer-lost";
    case HandlerEvent::PeerConnected:
      return "peer-connected";
    case HandlerEvent::LocalIoError:
      return "local-io-error";
    case HandlerEvent::Promoted:
      return "promoted";
    case HandlerEvent::Demoted:
      return "demoted";
    case HandlerEvent::Suspended:
      return "suspended";
    case HandlerEvent::Resumed:
      return "resumed";
  }
  return "";
}

}  // namespace lockstep::tools
