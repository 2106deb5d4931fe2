#include "tools/daemon.h"

#include <signal.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "io/address.h"
#include "replicator/local_disk.h"
#include "replicator/metadata_store.h"
#include "tools/daemon_status.h"
#include "tools/metrics_text.h"
#include "tools/node_choice.h"
#include "tools/patience.h"
#include "tools/service_notification.h"
#include "tools/service_status.h"

namespace lockstep::tools {
namespace {

repl::LossPolicy core_policy(PeerLossPolicy policy) {
  switch (policy) {
    case PeerLossPolicy::Suspend:
      return repl::LossPolicy::Suspend;
    case PeerLossPolicy::Arbiter:
      return repl::LossPolicy::Arbiter;
    case PeerLossPolicy::Continue:
      break;
  }
  return repl::LossPolicy::Continue;
}

repl::SyncSet core_sync(const SyncConfiguration& sync) {
  switch (sync.choice) {
    case SyncPeers::First:
      return {repl::SyncChoice::First, sync.count};
    case SyncPeers::Any:
      return {repl::SyncChoice::Any, sync.count};
    case SyncPeers::All:
      break;
  }
  return {};
}

std::string sync_text(const SyncConfiguration& sync) {
  switch (sync.choice) {
    case SyncPeers::First:
      return "first " + std::to_string(sync.count);
    case SyncPeers::Any:
      return "any " + std::to_string(sync.count);
    case SyncPeers::All:
      break;
  }
  return "all";
}

}  // namespace

Daemon::Daemon(const ResourceConfiguration& configuration, const NodeConfiguration& node)
    : configuration_(configuration), node_(node) {}

// In the order in which one uses the other.
Daemon::~Daemon() {
  control_socket_.reset();
  metrics_server_.reset();
  link_listener_.reset();
  nbd_server_.reset();
  driver_.reset();
  fence_command_.reset();
  watch_timer_.reset();
  watchdog_timer_.reset();
  audit_log_.reset();
  handlers_.reset();
  exports_.reset();
  signals_.reset();
  loop_.reset();
}

Result<std::unique_ptr<Daemon>> Daemon::start(const ResourceConfiguration& configuration, const NodeConfiguration& node,
                                              const std::string& run_dir) {
  std::unique_ptr<Daemon> daemon(new Daemon(configuration, node));
  if (Status status = daemon->open_everything(run_dir); !status) {
    // What was opened already has tasks in the loop, which must end before it does.
    if (daemon->loop_) {
      daemon->loop_->spawn(daemon->give_up());
      daemon->loop_->run();
    }
    return std::move(status).error();
  }
  return daemon;
}

io::Task<void> Daemon::give_up() {
  stopping_ = true;
  // First of all: "lockstep up" takes an answer for a start that went well.
  if (control_socket_) co_await control_socket_->close();
  if (nbd_server_) co_await nbd_server_->stop();
  if (link_listener_) link_listener_->close();
  if (metrics_server_) metrics_server_->close();
  loop_->stop();
}

Status Daemon::open_everything(const std::string& run_dir) {
  io::LoopOptions loop_options;
  loop_options.poll_us = configuration_.poll_us;
  auto loop = io::Loop::create(loop_options);
  if (!loop) return std::move(loop).error();
  loop_ = std::move(*loop);
  auto signals = io::ProcessSignals::create(*loop_, {SIGTERM, SIGINT, SIGHUP});
  if (!signals) return std::move(signals).error();
  signals_ = std::move(*signals);

  run_dir_ = run_dir;
  std::error_code code;
  std::filesystem::create_directories(run_dir, code);
  if (code) return system_error("cannot make the folder " + run_dir, code.value());
  const std::string socket_path = control_socket_path(run_dir, configuration_.name, node_.name);
  Patience patience([this](const std::string& what) { spdlog::info("{}: {}", configuration_.name, what); });
  auto control_socket = patience.when_free([&] { return repl::ControlSocket::open(*loop_, socket_path, *this); });
  if (!control_socket) return std::move(control_socket).error();
  control_socket_ = std::move(*control_socket);

  exports_ = std::make_unique<nbd::ExportTable>(*loop_);
  export_ = &exports_->add(configuration_.name);
  auto storage = patience.when_free([this] { return open_storage(); });
  if (!storage) return std::move(storage).error();
  if (Status status = open_replica(std::move(*storage)); !status) return status;
  if (Status status = listen_for_clients(patience); !status) return status;
  auto address = io::parse_address(node_.address);
  if (!address) return std::move(address).error();
  auto listener = patience.when_free([&] {
    return repl::LinkListener::open(*loop_, *address, driver_->identity(), driver_->links(), driver_->link_options());
  });
  if (!listener) return std::move(listener).error();
  link_listener_ = std::move(*listener);
  if (!node_.metrics.empty()) {
    auto metrics_address = io::parse_address(node_.metrics);
    if (!metrics_address) return std::move(metrics_address).error();
    auto server = patience.when_free(
        [&] { return MetricsServer::open(*loop_, *metrics_address, [this] { return metrics_text(view()); }); });
    if (!server) return std::move(server).error();
    metrics_server_ = std::move(*server);
  }
  AuditLog::Names names{configuration_.name, node_.name, {}};
  for (const auto& link : driver_->links()) names.peers.push_back(link->peer_name());
  audit_log_ = std::make_unique<AuditLog>(
      *loop_, node_.audit, std::move(names),
      [this](repl::PeerIndex peer, const repl::AuditFrame& frame) { driver_->send_audit_frame(peer, frame); });
  handlers_ = std::make_unique<Handlers>(*loop_, configuration_.name, configuration_.handlers);
  state_watch_ = std::make_unique<StateWatch>(driver_->links().size());
  watch_timer_ = std::make_unique<io::Timer>(*loop_, [this] { watch_states(); });
  return driver_->start();
}

// The size that counts is the one in the metadata: the configuration's is what `create` makes, and is corrected by hand
// after a resize.
Result<Daemon::Storage> Daemon::open_storage() {
  repl::MetadataExpectation expectation{configuration_.name, node_.name, {}, 0};
  for (const NodeConfiguration& other : configuration_.nodes) {
    if (other.name != node_.name) expectation.peer_names.push_back(other.name);
  }
  auto metadata = repl::MetadataStore::open(*loop_, node_.metadata, expectation);
  if (!metadata) return std::move(metadata).error();
  const uint64_t size_bytes = (*metadata)->size_bytes();
  if (size_bytes != configuration_.size_bytes) {
    spdlog::warn("{}: the size is {} bytes, and the configuration says {}: {}", configuration_.name, size_bytes,
                 configuration_.size_bytes,
                 size_bytes > configuration_.size_bytes ? "correct 'size' in it"
                                                        : "it grows by 'lockstep resize', not by the configuration");
  }
  auto disk = repl::LocalDisk::open(*loop_, node_.disk, size_bytes);
  if (!disk) return std::move(disk).error();
  return Storage{std::move(*disk), std::move(*metadata)};
}

Status Daemon::open_replica(Storage storage) {
  repl::DriverOptions options;
  options.identity = {configuration_.name, node_.name, 0, 0};
  options.protocol = core_protocol(configuration_.protocol);
  options.sync = core_sync(configuration_.sync);
  options.on_peer_loss = core_policy(configuration_.on_peer_loss);
  options.peer_timeout_ms = configuration_.peer_timeout_ms;
  options.resync_pace = {configuration_.resync_rate_max, configuration_.resync_rate_min};
  options.prepares_resyncs = !configuration_.handlers.command_of(HandlerEvent::BeforeResyncTarget).empty();
  options.link.stream.user_timeout_ms = 2 * configuration_.peer_timeout_ms;
  auto security = repl::load_link_security(configuration_.secret_file, node_.link_certificates);
  if (!security) return std::move(security).error();
  options.link.security = std::move(*security);
  if (!configuration_.fence_command.empty()) {
    FenceCommandOptions fencing{configuration_.name, node_.name, {}, io::split_words(configuration_.fence_command)};
    for (const NodeConfiguration& each : configuration_.nodes) fencing.node_names.push_back(each.name);
    fence_command_ = std::make_unique<FenceCommand>(*loop_, std::move(fencing));
    options.arbiter = fence_command_.get();
  }
  for (const NodeConfiguration& other : configuration_.nodes) {
    if (other.name == node_.name) continue;
    auto address = io::parse_address(other.address);
    if (!address) return std::move(address).error();
    options.peers.push_back({other.name, std::move(*address), protocol_towards(other)});
  }
  options.identity.size_bytes = storage.metadata->size_bytes();
  options.identity.prepared_size_bytes = storage.metadata->superblock().prepared_size_bytes;
  repl::DriverOwner& owner = *this;
  driver_ = std::make_unique<repl::Driver>(*loop_, std::move(options), std::move(storage.disk),
                                           std::move(storage.metadata), owner);
  return {};
}

Status Daemon::listen_for_clients(Patience& patience) {
  nbd_server_ = std::make_unique<nbd::NbdServer>(*loop_, *exports_);
  export_->refuse(node_.name + " is starting");
  const ExportConfiguration& exported = configuration_.nbd_export;
  nbd::ExportOptions options;
  options.read_only = exported.read_only;
  options.shared = exported.shared;
  options.allowed_names = exported.tls_allow;
  export_->set_options(std::move(options));
  nbd::TlsTerms tls;
  if (exported.tls != TlsPolicy::Off) {
    auto credentials = io::TlsCredentials::load(io::TlsRole::Server,
                                                {node_.tls_certificates, node_.tls_psk_file, exported.tls_verify_peer});
    if (!credentials) return std::move(credentials).error();
    tls.mode = exported.tls == TlsPolicy::Require ? nbd::TlsMode::Require : nbd::TlsMode::On;
    tls.credentials = std::move(*credentials);
  }
  for (const std::string& text : node_.nbd) {
    auto address = io::parse_address(text);
    if (!address) return std::move(address).error();
    nbd::TlsTerms terms = tls;
    // Who reaches a unix socket was let in by its permissions, and nothing that passes through it leaves the kernel.
    if (address->family == io::AddressFamily::Unix && terms.mode == nbd::TlsMode::Require) {
      terms.mode = nbd::TlsMode::On;
    }
    Status status = patience.when_free([&] { return nbd_server_->listen(*address, terms); });
    if (!status) return status;
  }
  const bool tls_required = tls.mode == nbd::TlsMode::Require;
  for (const io::Address& address : nbd_server_->addresses()) {
    nbd_uris_.push_back(nbd_uri(address, configuration_.name, tls_required));
  }
  return {};
}

bool Daemon::run() {
  loop_->spawn(await_signal());
  state_changed();
  spdlog::info("{}: node {} is up", configuration_.name, node_.name);
  notify_service_manager("READY=1");
  if (const auto period_ms = watchdog_period_ms(std::getenv("WATCHDOG_USEC"), std::getenv("WATCHDOG_PID"))) {
    watchdog_timer_ = std::make_unique<io::Timer>(*loop_, [] { notify_service_manager("WATCHDOG=1"); });
    watchdog_timer_->start_periodic_ms(*period_ms);
  }
  loop_->run();
  spdlog::info("{}: node {} is down", configuration_.name, node_.name);
  return stopped_well_;
}

// ---- what the replica tells ----

void Daemon::export_opened() {
  export_->open(*driver_);
  state_changed();
}

void Daemon::export_closed() {
  export_->refuse(refusal_of(*driver_));
  state_changed();
  // Clients of a node that lost its role would go on with what they have cached, should it become Primary again.
  if (export_->client_count() > 0 && !stopping_) loop_->spawn(end_sessions());
}

io::Task<void> Daemon::end_sessions() {
  co_await export_->close_sessions();
}

void Daemon::state_changed() {
  if (handlers_) watch_states();
  if (!export_->is_open() && !stopping_) export_->refuse(refusal_of(*driver_));
  if (control_socket_) control_socket_->state_changed();
  tell_service_manager();
}

void Daemon::tell_service_manager() {
  if (!has_service_manager() || !driver_) return;
  std::string line = "STATUS=" + service_status(status());
  if (line == told_) return;
  told_ = std::move(line);
  notify_service_manager(told_.c_str());
}

uint32_t Daemon::export_clients() const {
  return static_cast<uint32_t>(export_->client_count());
}

nlohmann::json Daemon::status() {
  // Asked of a daemon whose start is failing.
  if (!driver_) return {{"resource", configuration_.name}, {"node", node_.name}};
  return status_of(view());
}

DaemonView Daemon::view() const {
  return {*driver_,        *export_,
          nbd_uris_,       core_protocol(configuration_.protocol),
          loop_->now_us(), sync_text(configuration_.sync)};
}

void Daemon::explain(const repl::ControlRequest&, std::unique_ptr<repl::ControlAnswer> answer) {
  answer->done(repl::ControlExit::Done, explanation_of(view()), explanation_data(view()));
}

void Daemon::metrics(const repl::ControlRequest&, std::unique_ptr<repl::ControlAnswer> answer) {
  answer->done(repl::ControlExit::Done, metrics_text(view()));
}

void Daemon::latencies(const repl::ControlRequest&, std::unique_ptr<repl::ControlAnswer> answer) {
  answer->done(repl::ControlExit::Done, "", latencies_of(view()));
}

// ---- the end ----

io::Task<void> Daemon::await_signal() {
  Result<int> signal = co_await signals_->next();
  while (signal.ok() && *signal == SIGHUP && !stopping_) {
    reload_configuration([](repl::ControlExit, const std::string&) {});  // what came of it is in the log
    signal = co_await signals_->next();
  }
  if (!signal || stopping_) co_return;
  spdlog::info("{}: signal {}: stopping", configuration_.name, *signal);
  stopping_ = true;
  loop_->spawn(stop(nullptr));
}

void Daemon::down(const repl::ControlRequest&, std::unique_ptr<repl::ControlAnswer> answer) {
  if (std::exchange(stopping_, true)) {
    answer->done(repl::ControlExit::Done, "the daemon is stopping already");
    return;
  }
  spdlog::info("{}: down: stopping", configuration_.name);
  loop_->spawn(stop(std::move(answer)));
}

io::Task<repl::Outcome> Daemon::order_shutdown() {
  repl::Outcome outcome = repl::Outcome::Busy;
  io::Signal answered(*loop_);
  bool done = false;
  repl::OrderGiven order;
  order.kind = repl::OrderKind::Shutdown;
  driver_->give_order(order, [&](repl::OrderAnswer answer) {
    outcome = answer.outcome;
    done = true;
    answered.notify_all();
  });
  while (!done) co_await answered.wait();
  co_return outcome;
}

// Clients first, so that what they wrote is finished; then the replica, which writes down that it ended well.
io::Task<void> Daemon::stop(std::unique_ptr<repl::ControlAnswer> answer) {
  constexpr int kTries = 100;
  constexpr uint64_t kPauseMs = 100;
  notify_service_manager("STOPPING=1");
  export_->refuse(node_.name + " is stopping");
  abandon_held();
  co_await nbd_server_->stop();
  repl::Outcome outcome = repl::Outcome::Busy;
  for (int i = 0; i < kTries; ++i) {
    outcome = co_await order_shutdown();
    if (outcome != repl::Outcome::Busy) break;
    co_await loop_->sleep_ms(kPauseMs);
  }
  stopped_well_ = outcome == repl::Outcome::Done || outcome == repl::Outcome::AlreadySo;
  if (!stopped_well_) spdlog::error("{}: stopped without writing down that it ended well", configuration_.name);
  co_await driver_->quiet();
  if (answer) {
    answer->done(stopped_well_ ? repl::ControlExit::Done : repl::ControlExit::Failed,
                 stopped_well_ ? "" : "stopped, but the local disk or metadata has failed: see the daemon's log");
    answer.reset();
  }
  if (fence_command_) co_await fence_command_->close();
  co_await handlers_->close();
  co_await audit_log_->close();
  link_listener_->close();
  if (metrics_server_) metrics_server_->close();
  co_await control_socket_->close();
  loop_->stop();
}

}  // namespace lockstep::tools
