"""Who is measured: each serves one device of the same size from files that were written in full before.

A contender has a name, start(), end(), and: `target`, what fio is told (an NBD URI, or files for direct I/O);
`pids`, the daemons whose processor time counts; `copies`, how many disks each write reaches. One is there at a time, and
all use the same two files, options.disks: where a file lies makes more of a difference than many a contender.
"""
import json
import os
import socket

from processes import Background, run, wait_until


def written_file(path, size_bytes):
    """Every byte written: an unwritten extent would cost a journal commit at the first flush behind a write."""
    run(["dd", "if=/dev/zero", f"of={path}", "bs=4M", f"count={size_bytes // (4 << 20)}", "oflag=direct", "status=none"])
    run(["sync", path])
    return path


def free_port(address):
    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def nbd_uri(socket_path, name):
    return f"nbd+unix:///{name}?socket={socket_path}"


class Options:
    """What all contenders of a run share."""

    ramp_seconds = 1

    def __init__(self, build, size_mib, seconds):
        self.build = build
        self.size_bytes = size_mib << 20
        self.seconds = seconds
        self.disks = []
        self.settings = []  # further lines of Lockstep's [resource]

    def make_disks(self, folder):
        self.disks = [written_file(os.path.join(folder, name), self.size_bytes) for name in ("first.img", "second.img")]

    def program(self, name):
        return os.path.join(self.build, "tools", name)


class Contender:
    name = ""
    copies = 1

    def __init__(self, options, folder):
        self.options = options
        self.folder = folder
        self.target = None
        self.backgrounds = []
        os.makedirs(folder, exist_ok=True)

    @property
    def pids(self):
        return [background.pid for background in self.backgrounds]

    def path(self, name):
        return os.path.join(self.folder, name)

    def background(self, arguments):
        self.backgrounds.append(Background(arguments, self.path("log")))
        return self.backgrounds[-1]

    def wait_for_socket(self, path):
        wait_until(f"{self.name} does not listen on {path}", lambda: os.path.exists(path))

    def end(self):
        for background in reversed(self.backgrounds):
            background.end()
        self.backgrounds = []
        for name in ("sock", "second", "second.pid", "qmp"):  # what start() waits for
            if os.path.lexists(self.path(name)):
                os.remove(self.path(name))


class RawFile(Contender):
    """fio on the file itself: what the disk gives."""

    name = "raw"

    def start(self):
        self.target = self.options.disks[:1]


class TwoRawFiles(Contender):
    """fio on two files at once: the limit of whoever writes everything twice."""

    name = "two-raw"
    copies = 2

    def start(self):
        self.target = self.options.disks


class QemuNbd(Contender):
    name = "qemu-nbd"

    def start(self):
        self.background(["qemu-nbd", "--format=raw", "--cache=none", "--aio=io_uring", "--shared=16", "--persistent",
                         "--export-name=disk", f"--socket={self.path('sock')}", self.options.disks[0]])
        self.wait_for_socket(self.path("sock"))
        self.target = nbd_uri(self.path("sock"), "disk")


class Nbdkit(Contender):
    """nbdkit's file plugin, which goes through the page cache: its writes are in memory when it answers."""

    name = "nbdkit"

    def plugin(self):
        return ["file", f"file={self.options.disks[0]}"]

    def start(self):
        self.background(["nbdkit", "--foreground", f"--unix={self.path('sock')}", *self.plugin()])
        self.wait_for_socket(self.path("sock"))
        self.target = nbd_uri(self.path("sock"), "")


class NothingBehind(Nbdkit):
    """nbdkit's null plugin, which keeps nothing: what the client comes to where a server takes next to no time."""

    name = "nothing"

    def plugin(self):
        return ["null", f"{self.options.size_bytes}"]


class QemuMirror(Contender):
    """What the QEMU mirrors share: a second disk behind another qemu-nbd, over TCP or over a unix socket."""

    copies = 2
    over_tcp = True

    def start_second_disk(self):
        """The `server` of the NBD client that writes there."""
        arguments = ["qemu-nbd", "--format=raw", "--cache=none", "--aio=io_uring", "--shared=16", "--persistent",
                     "--export-name=second", f"--pid-file={self.path('second.pid')}"]
        if self.over_tcp:
            port = free_port("127.0.0.1")
            arguments += ["--bind=127.0.0.1", f"--port={port}"]
            server = f"server.type=inet,server.host=127.0.0.1,server.port={port}"
        else:
            arguments.append(f"--socket={self.path('second')}")
            server = f"server.type=unix,server.path={self.path('second')}"
        second = self.background([*arguments, self.options.disks[1]])
        wait_until("the second qemu-nbd does not start", lambda: os.path.exists(self.path("second.pid")) or not second.is_alive())
        return server

    def storage_daemon(self, *arguments):
        server = self.start_second_disk()
        self.background(["qemu-storage-daemon",
                         "--blockdev", f"driver=file,node-name=f0,filename={self.options.disks[0]},cache.direct=on,aio=io_uring",
                         "--blockdev", "driver=raw,node-name=first,file=f0",
                         "--blockdev", f"driver=nbd,node-name=second,{server},export=second",
                         *arguments])
        self.wait_for_socket(self.path("sock"))
        self.target = nbd_uri(self.path("sock"), "disk")

    def server(self, node):
        return ["--nbd-server", f"addr.type=unix,addr.path={self.path('sock')}",
                "--export", f"type=nbd,id=disk,node-name={node},name=disk,writable=on"]


class QemuQuorum(QemuMirror):
    name = "quorum"

    def start(self):
        # It reads from both and compares: whoever was measured before may have written to one of them alone.
        run(["dd", f"if={self.options.disks[0]}", f"of={self.options.disks[1]}", "bs=4M", "iflag=direct", "oflag=direct",
             "conv=notrunc,fsync", "status=none"])
        self.storage_daemon("--blockdev", "driver=quorum,node-name=both,vote-threshold=2,children.0=first,children.1=second",
                            *self.server("both"))


class QemuBlockMirror(QemuMirror):
    name = "mirror"

    def start(self):
        self.storage_daemon("--chardev", f"socket,path={self.path('qmp')},server=on,wait=off,id=qmp", "--monitor", "chardev=qmp",
                            *self.server("first"))
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.path("qmp"))
            with connection.makefile("rw") as monitor:
                monitor.readline()
                self.order(monitor, "qmp_capabilities", {})
                self.order(monitor, "blockdev-mirror", {"job-id": "mirror", "device": "first", "target": "second",
                                                        "sync": "none", "copy-mode": "write-blocking"})
                self.wait_until_ready(monitor)

    @staticmethod
    def order(monitor, command, arguments):
        monitor.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        monitor.flush()
        while True:
            answer = json.loads(monitor.readline())
            if "error" in answer:
                raise RuntimeError(f"qemu-storage-daemon: {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def wait_until_ready(self, monitor):
        wait_until("the mirror job does not become ready",
                   lambda: all(job["status"] == "ready" for job in self.order(monitor, "query-jobs", {})))


class QemuQuorumUnix(QemuQuorum):
    """Over TCP, QEMU's two ends wait for each other's delayed acknowledgements on some kernels; not over this."""

    name = "quorum-unix"
    over_tcp = False


class QemuBlockMirrorUnix(QemuBlockMirror):
    name = "mirror-unix"
    over_tcp = False


class Lockstep(Contender):
    copies = 2
    nodes = ("alpha", "beta")
    protocol = "C"

    def start(self):
        address = f"127.77.{os.getpid() % 250 + 1}"
        lines = ["[resource]", "name = bench", f"size = {self.options.size_bytes}"]
        lines += self.options.settings
        if len(self.nodes) > 1:
            lines.append(f"protocol = {self.protocol}")
        for number, node in enumerate(self.nodes, 1):
            port = free_port(f"{address}.{number}")
            lines += [f"[node.{node}]", f"address = {address}.{number}:{port}", f"disk = {self.options.disks[number - 1]}",
                      f"metadata = {self.path(node)}.meta", f"nbd = unix:{self.path(node)}.nbd"]
        self.configuration = self.path("bench.conf")
        with open(self.configuration, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        for node in self.nodes:
            self.order(node, "create", "--force")
        for node in self.nodes:
            self.start_node(node)
        for node in self.nodes:
            self.wait_for_socket(self.path(f"bench.{node}.sock"))
        self.order("alpha", "wait", "--for", "synced", "--timeout", "30")
        self.order("alpha", "promote")
        self.target = nbd_uri(f"{self.path('alpha')}.nbd", "bench")

    def start_node(self, node):
        self.background([self.options.program("lockstepd"), "bench", "--config", self.configuration, "--node", node,
                         "--run-dir", self.folder])

    def order(self, node, verb, *arguments):
        return run([self.options.program("lockstep"), verb, "bench", "--config", self.configuration, "--node", node,
                    "--run-dir", self.folder, *arguments])


class LockstepC(Lockstep):
    name = "lockstep-C"


class LockstepB(Lockstep):
    name = "lockstep-B"
    protocol = "B"


class LockstepA(Lockstep):
    name = "lockstep-A"
    protocol = "A"


class LockstepAlone(Lockstep):
    name = "lockstep-1"
    copies = 1
    nodes = ("alpha",)


ALL = {kind.name: kind for kind in (LockstepC, LockstepB, LockstepA, LockstepAlone, QemuQuorum, QemuQuorumUnix,
                                    QemuBlockMirror, QemuBlockMirrorUnix, QemuNbd, Nbdkit, NothingBehind, RawFile,
                                    TwoRawFiles)}
