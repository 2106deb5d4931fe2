// One resource on one node, put together: disk, metadata, replica, links, NBD server, control socket.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "io/base/result.h"
#include "io/loop.h"
#include "io/process_signals.h"
#include "io/task.h"
#include "io/timer.h"
#include "nbd-server/export_table.h"
#include "nbd-server/listener.h"
#include "replicator/control_socket.h"
#include "replicator/driver.h"
#include "replicator/link_listener.h"
#include "tools/audit_log.h"
#include "tools/configuration.h"
#include "tools/daemon_losses.h"
#include "tools/daemon_status.h"
#include "tools/fence_command.h"
#include "tools/handlers.h"
#include "tools/metrics_server.h"
#include "tools/state_watch.h"

namespace lockstep::tools {

class Patience;

class Daemon final : private repl::DriverOwner, private repl::ControlVerbs {
 public:
  // The node must be one of the configuration's. Takes everything that the node needs, or gives the one line that
  // says what is missing; nothing on disk is changed before all of it is there. Blocking.
  static Result<std::unique_ptr<Daemon>> start(const ResourceConfiguration& configuration,
                                               const NodeConfiguration& node, const std::string& run_dir);
  ~Daemon() override;

  // Until the operator or a signal stops the node. False when it could not stop in good order.
  bool run();

 private:
  Daemon(const ResourceConfiguration& configuration, const NodeConfiguration& node);
  Status open_everything(const std::string& run_dir);
  struct Storage {
    std::unique_ptr<io::File> disk;
    std::unique_ptr<repl::MetadataStore> metadata;
  };
  Result<Storage> open_storage();
  Status open_replica(Storage storage);
  Status listen_for_clients(Patience& patience);
  io::Task<void> give_up();

  // DriverOwner
  void export_opened() override;
  void export_closed() override;
  void state_changed() override;
  void noted(const repl::Note& note) override;
  void prepare_resync(repl::PeerIndex peer, std::function<void(bool)> ready) override;
  uint32_t export_clients() const override;

  // daemon_handlers.cpp
  WatchedState watched_state() const;
  void watch_states();
  void run_handler(const Happening& happening, const std::string& reason, std::function<void(bool)> ended = {});

  // ControlVerbs
  nlohmann::json status() override;
  void execute(repl::ControlRequest request, std::unique_ptr<repl::ControlAnswer> answer) override;

  using Verb = void (Daemon::*)(const repl::ControlRequest&, std::unique_ptr<repl::ControlAnswer>);
  static Verb find_verb(const std::string& name);
  void execute_order(const repl::ControlRequest& request, repl::OrderKind kind,
                     std::unique_ptr<repl::ControlAnswer> answer);
  bool fill_order(const repl::ControlRequest& request, repl::OrderGiven& order,
                  std::unique_ptr<repl::ControlAnswer>& answer);
  void carry_out(const repl::OrderGiven& order, bool clients_end, std::unique_ptr<repl::ControlAnswer> answer);
  void answer_outcome(repl::OrderKind kind, repl::OrderAnswer outcome, repl::ControlAnswer& answer) const;
  void plan_without_order(const repl::ControlRequest& request, std::unique_ptr<repl::ControlAnswer> answer);
  void attach(const repl::ControlRequest& request, std::unique_ptr<repl::ControlAnswer> answer);
  io::Task<void> attach_when_released(std::unique_ptr<repl::ControlAnswer> answer);
  void reload(const repl::ControlRequest& request, std::unique_ptr<repl::ControlAnswer> answer);
  void explain(const repl::ControlRequest& request, std::unique_ptr<repl::ControlAnswer> answer);
  void down(const repl::ControlRequest& request, std::unique_ptr<repl::ControlAnswer> answer);
  DaemonView view() const;
  void metrics(const repl::ControlRequest& request, std::unique_ptr<repl::ControlAnswer> answer);
  void latencies(const repl::ControlRequest& request, std::unique_ptr<repl::ControlAnswer> answer);

  // daemon_audit.cpp
  class AuditedAnswer;
  void link_came_up(repl::PeerIndex peer) override;
  void audit_frame_arrived(repl::PeerIndex peer, const repl::AuditFrame& frame) override;
  nlohmann::json states_for_audit() const;
  AuditRecord audit_record_of(const repl::ControlRequest& request, bool accepts_loss) const;
  // The answer with a line in the audit log before it is given.
  std::unique_ptr<repl::ControlAnswer> audited(const repl::ControlRequest& request, bool accepts_loss,
                                               std::unique_ptr<repl::ControlAnswer> answer);
  void record_begin(const repl::ControlRequest& request, const Loss& loss, std::function<void()> recorded);

  void give_order(const repl::OrderGiven& order, std::unique_ptr<repl::ControlAnswer> answer);
  // An order about one peer, or about every one where none is named. False: no such peer, and that is answered.
  bool choose_peer(const repl::ControlRequest& request, const char* argument, repl::OrderGiven& order,
                   std::unique_ptr<repl::ControlAnswer>& answer);
  bool choose_generation(const repl::ControlRequest& request, const char* argument, repl::OrderGiven& order,
                         std::unique_ptr<repl::ControlAnswer>& answer);
  // Requests that a suspension holds would keep their sessions for ever.
  void abandon_held();
  io::Task<void> end_sessions();
  void tell_service_manager();
  std::string words_for(repl::OrderKind order, repl::OrderAnswer outcome, repl::ControlExit& exit) const;
  io::Task<void> demote_by_force(std::unique_ptr<repl::ControlAnswer> answer);
  io::Task<void> await_signal();
  // Takes over what may change while the node runs; `told` hears when it is in force, or why nothing was changed.
  void reload_configuration(std::function<void(repl::ControlExit, const std::string&)> told);
  Result<ResourceConfiguration> wanted_configuration() const;
  bool refuse_resync_apart(repl::PeerIndex peer, repl::ControlAnswer& answer) const;
  void plan_reload(repl::ControlAnswer& answer) const;
  io::Task<void> stop(std::unique_ptr<repl::ControlAnswer> answer);
  io::Task<repl::Outcome> order_shutdown();

  ResourceConfiguration configuration_;
  const NodeConfiguration node_;
  std::string run_dir_;
  std::unique_ptr<io::Loop> loop_;
  std::unique_ptr<io::ProcessSignals> signals_;
  std::unique_ptr<FenceCommand> fence_command_;
  std::unique_ptr<Handlers> handlers_;
  std::unique_ptr<StateWatch> state_watch_;
  std::unique_ptr<io::Timer> watch_timer_;
  std::unique_ptr<io::Timer> watchdog_timer_;
  std::unique_ptr<repl::Driver> driver_;
  std::unique_ptr<nbd::ExportTable> exports_;
  nbd::Export* export_ = nullptr;
  std::unique_ptr<nbd::NbdServer> nbd_server_;
  std::vector<std::string> nbd_uris_;
  std::unique_ptr<repl::LinkListener> link_listener_;
  std::unique_ptr<MetricsServer> metrics_server_;
  std::unique_ptr<AuditLog> audit_log_;
  std::unique_ptr<repl::ControlSocket> control_socket_;
  std::string told_;  // the service manager's last word of us
  bool stopping_ = false;
  bool stopped_well_ = true;
};

}  // namespace lockstep::tools
