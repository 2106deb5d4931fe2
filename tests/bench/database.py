"""pgbench on PostgreSQL: on ext4 on a contender's device, and PostgreSQL's own synchronous replication beside it."""
import glob
import os
import re
import shutil
import subprocess

from processes import Background, Usage, percentiles_of, run, system_calls_during, wait_until

PROGRAMS = "/usr/lib/postgresql/15/bin"
SCALE = 20
PERCENTILES = {"p50-us": 0.5, "p99-us": 0.99, "p99.9-us": 0.999}


def as_postgres(*arguments):
    return run(["runuser", "-u", "postgres", "--", *arguments], cwd="/")


class Cluster:
    """One PostgreSQL server with its data in `folder`, reached over a socket in `sockets`."""

    def __init__(self, folder, sockets):
        self.data = os.path.join(folder, "data")
        self.sockets = sockets
        self.port = 5432
        self.running = False

    def create(self, settings=()):
        os.makedirs(self.sockets, exist_ok=True)
        shutil.chown(self.sockets, "postgres")
        run(["install", "-d", "-o", "postgres", "-m", "700", self.data])
        as_postgres(f"{PROGRAMS}/initdb", "--pgdata", self.data, "--username", "postgres", "--auth", "trust", "--no-locale")
        self.configure("listen_addresses = ''", "max_connections = 100", "shared_buffers = 256MB", "checkpoint_timeout = 15min",
                       "max_wal_size = 256MB", *settings)

    def configure(self, *settings):
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as file:
            file.write("\n".join((f"unix_socket_directories = '{self.sockets}'", f"port = {self.port}", *settings)) + "\n")

    def start(self):
        as_postgres(f"{PROGRAMS}/pg_ctl", "start", "--pgdata", self.data, "--wait", "--log", f"{self.sockets}/log")
        self.running = True

    def stop(self):
        if self.running:
            as_postgres(f"{PROGRAMS}/pg_ctl", "stop", "--pgdata", self.data, "--mode", "fast", "--wait", "--timeout", "600")
            self.running = False

    def connection(self):
        return ["--host", self.sockets, "--port", str(self.port), "--username", "postgres"]

    def query(self, text):
        return as_postgres(f"{PROGRAMS}/psql", *self.connection(), "--no-align", "--tuples-only", "--command", text, "postgres").strip()

    def fill(self):
        as_postgres(f"{PROGRAMS}/pgbench", *self.connection(), "--initialize", "--quiet", "--scale", str(SCALE), "postgres")
        self.query("CHECKPOINT")

    def load(self, clients, seconds, *options):
        return as_postgres(f"{PROGRAMS}/pgbench", *self.connection(), "--client", str(clients), "--jobs", "2", "--time", str(seconds),
                           "--no-vacuum", *options, "postgres")

    def latencies_us(self):
        """Of the transactions that the load has logged; its log is taken away."""
        values = []
        for path in glob.glob(f"{self.sockets}/transactions.*"):
            with open(path, encoding="ascii") as file:
                values += [int(line.split()[2]) for line in file]
            os.remove(path)
        return values

    def measure(self, clients, seconds, pids, count_system_calls):
        before = Usage(pids)
        text = self.load(clients, seconds, "--log", f"--log-prefix={self.sockets}/transactions")
        used = Usage(pids).since(before)
        rate = float(re.search(r"^tps = ([0-9.]+)", text, re.M).group(1))
        result = {"transactions-per-second": rate, **percentiles_of(self.latencies_us(), PERCENTILES)}
        if pids:
            result["processor-us-per-transaction"] = used["processor-us"] / (rate * seconds)
            result["context-switches-per-transaction"] = used["context-switches"] / (rate * seconds)
            result["resident-bytes"] = used["resident-bytes"]
        if pids and count_system_calls:  # by a run of its own, since to count them costs time
            text, calls = system_calls_during(pids, lambda: self.load(clients, 2))
            if calls is not None:
                done = int(re.search(r"transactions actually processed: (\d+)", text).group(1))
                result["system-calls-per-transaction"] = calls / done
        return result


class MountedDevice:
    """ext4 on a loop device: over a file, or over an NBD export by way of nbdfuse, as lockstep-attach does it."""

    def __init__(self, folder, target):
        self.folder = folder
        self.fuse = None
        os.makedirs(folder, exist_ok=True)
        self.mount_point = os.path.join(folder, "mnt")
        os.makedirs(self.mount_point, exist_ok=True)
        self.device = None
        try:
            file = target[0] if isinstance(target, list) else self.serve_as_file(target)
            self.device = run(["losetup", "--find", "--show", "--direct-io=on", file]).strip()
            run(["mkfs.ext4", "-q", self.device])
            run(["mount", self.device, self.mount_point])
        except BaseException:  # a signal, too: what was set up is taken down
            self.end()
            raise

    def serve_as_file(self, uri):
        folder = os.path.join(self.folder, "fuse")
        os.makedirs(folder, exist_ok=True)
        pid_file = os.path.join(self.folder, "fuse.pid")
        if os.path.exists(pid_file):  # of an earlier round
            os.remove(pid_file)
        self.fuse = Background(["nbdfuse", "--connections", "4", "--pidfile", pid_file, os.path.join(folder, "disk"), uri],
                               os.path.join(self.folder, "fuse.log"))
        wait_until("nbdfuse does not start", lambda: os.path.exists(pid_file) or not self.fuse.is_alive())
        return os.path.join(folder, "disk")

    def end(self):
        subprocess.run(["umount", self.mount_point], stderr=subprocess.DEVNULL, check=False)
        if self.device:
            subprocess.run(["losetup", "--detach", self.device], check=False)
        if self.fuse:
            subprocess.run(["umount", os.path.join(self.folder, "fuse")], stderr=subprocess.DEVNULL, check=False)
            self.fuse.end()


class DatabaseOnContender:
    def __init__(self, contender):
        self.contender = contender
        self.name = contender.name
        self.device = MountedDevice(contender.path("database"), contender.target)
        self.cluster = Cluster(self.device.mount_point, contender.path("sockets"))
        try:
            self.cluster.create()
            self.cluster.start()
            self.cluster.fill()
        except BaseException:  # a signal, too: what was set up is taken down
            self.end()
            raise

    def measure(self, clients, seconds, count_system_calls):
        return self.cluster.measure(clients, seconds, self.contender.pids, count_system_calls)

    def end(self):
        self.cluster.stop()
        self.device.end()


class StreamingReplication:
    """Two plain clusters, the second a synchronous standby: what PostgreSQL offers itself (remote_write)."""

    name = "pg-streaming"

    def __init__(self, options, folder):
        self.devices = []
        self.clusters = []
        try:
            for number in (1, 2):
                part = os.path.join(folder, str(number))
                os.makedirs(part, exist_ok=True)
                device = MountedDevice(part, [options.disks[number - 1]])
                self.devices.append(device)
                cluster = Cluster(device.mount_point, os.path.join(part, "sockets"))
                cluster.port = 5432 + number
                self.clusters.append(cluster)
            first, second = self.clusters
            first.create(("synchronous_standby_names = '*'", "synchronous_commit = local"))
            first.start()
            first.fill()
            os.makedirs(second.sockets, exist_ok=True)
            shutil.chown(second.sockets, "postgres")
            shutil.chown(self.devices[1].mount_point, "postgres")
            as_postgres(f"{PROGRAMS}/pg_basebackup", *first.connection(), "--pgdata", second.data, "--write-recovery-conf", "--checkpoint", "fast")
            second.configure()
            second.start()
            wait_until("the standby does not become synchronous",
                       lambda: first.query("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1")
            first.query("ALTER SYSTEM SET synchronous_commit = 'remote_write'")
            first.query("SELECT pg_reload_conf()")
        except BaseException:  # a signal, too: what was set up is taken down
            self.end()
            raise

    def replicating_pids(self):
        """What stands where others have a daemon: the sender, and all of the standby."""
        first, second = self.clusters
        with open(os.path.join(second.data, "postmaster.pid"), encoding="ascii") as file:
            postmaster = int(file.readline())
        with open(f"/proc/{postmaster}/task/{postmaster}/children", encoding="ascii") as file:
            children = [int(pid) for pid in file.read().split()]
        return [int(first.query("SELECT pid FROM pg_stat_replication")), postmaster, *children]

    def measure(self, clients, seconds, count_system_calls):
        return self.clusters[0].measure(clients, seconds, self.replicating_pids(), count_system_calls)

    def end(self):
        for cluster in self.clusters:  # the Primary first: its standby would keep it waiting
            cluster.stop()
        for device in self.devices:
            device.end()
