"""Who is measured: each serves one device of the same size from files that were written in full before.

A contender has a name, start(), end(), and: `target`, what fio is told (an NBD URI, or files for direct I/O);
`pids`, the daemons whose processor time counts; `copies`, how many disks each write reaches.
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


class RawFile(Contender):
    """fio on the file itself: what the disk gives."""

    name = "raw"

    def start(self):
        self.target = [written_file(self.path("disk.img"), self.options.size_bytes)]


class TwoRawFiles(Contender):
    """fio on two files at once: the limit of whoever writes everything twice."""

    name = "two-raw"
    copies = 2

    def start(self):
        self.target = [written_file(self.path(f"disk{i}.img"), self.options.size_bytes) for i in (1, 2)]


class QemuNbd(Contender):
    name = "qemu-nbd"

    def start(self):
        disk = written_file(self.path("disk.img"), self.options.size_bytes)
        self.background(["qemu-nbd", "--format=raw", "--cache=none", "--aio=io_uring", "--shared=16", "--persistent",
                         "--export-name=disk", f"--socket={self.path('sock')}", disk])
        self.wait_for_socket(self.path("sock"))
        self.target = nbd_uri(self.path("sock"), "disk")


class Nbdkit(Contender):
    """nbdkit's file plugin, which goes through the page cache: its writes are in memory when it answers."""

    name = "nbdkit"

    def start(self):
        disk = written_file(self.path("disk.img"), self.options.size_bytes)
        self.background(["nbdkit", "--foreground", f"--unix={self.path('sock')}", "file", f"file={disk}"])
        self.wait_for_socket(self.path("sock"))
        self.target = nbd_uri(self.path("sock"), "")


class QemuMirror(Contender):
    """What the two QEMU contenders share: a second disk behind qemu-nbd over TCP."""

    copies = 2

    def start_second_disk(self):
        disk = written_file(self.path("second.img"), self.options.size_bytes)
        port = free_port("127.0.0.1")
        second = self.background(["qemu-nbd", "--format=raw", "--cache=none", "--aio=io_uring", "--shared=16", "--persistent",
                                  "--export-name=second", "--bind=127.0.0.1", f"--port={port}", f"--pid-file={self.path('second.pid')}",
                                  disk])
        wait_until("the second qemu-nbd does not start", lambda: os.path.exists(self.path("second.pid")) or not second.is_alive())
        return port

    def storage_daemon(self, *arguments):
        first = written_file(self.path("first.img"), self.options.size_bytes)
        port = self.start_second_disk()
        self.background(["qemu-storage-daemon",
                         "--blockdev", f"driver=file,node-name=f0,filename={first},cache.direct=on,aio=io_uring",
                         "--blockdev", "driver=raw,node-name=first,file=f0",
                         "--blockdev", f"driver=nbd,node-name=second,server.type=inet,server.host=127.0.0.1,server.port={port},export=second",
                         *arguments])
        self.wait_for_socket(self.path("sock"))
        self.target = nbd_uri(self.path("sock"), "disk")

    def server(self, node):
        return ["--nbd-server", f"addr.type=unix,addr.path={self.path('sock')}",
                "--export", f"type=nbd,id=disk,node-name={node},name=disk,writable=on"]


class QemuQuorum(QemuMirror):
    name = "quorum"

    def start(self):
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


class Lockstep(Contender):
    copies = 2
    nodes = ("alpha", "beta")
    protocol = "C"

    def start(self):
        address = f"127.77.{os.getpid() % 250 + 1}"
        lines = ["[resource]", "name = bench", f"size = {self.options.size_bytes}"]
        if len(self.nodes) > 1:
            lines.append(f"protocol = {self.protocol}")
        for number, node in enumerate(self.nodes, 1):
            port = free_port(f"{address}.{number}")
            lines += [f"[node.{node}]", f"address = {address}.{number}:{port}", f"disk = {self.path(node)}.img",
                      f"nbd = unix:{self.path(node)}.nbd"]
        self.configuration = self.path("bench.conf")
        with open(self.configuration, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        for node in self.nodes:
            self.order(node, "create")
        for node in self.nodes:
            self.background([self.options.program("lockstepd"), "bench", "--config", self.configuration, "--node", node,
                             "--run-dir", self.folder])
        for node in self.nodes:
            self.wait_for_socket(self.path(f"bench.{node}.sock"))
        self.order("alpha", "wait", "--for", "synced", "--timeout", "30")
        self.order("alpha", "promote")
        self.target = nbd_uri(f"{self.path('alpha')}.nbd", "bench")

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


ALL = {kind.name: kind for kind in (LockstepC, LockstepB, LockstepA, LockstepAlone, QemuQuorum, QemuBlockMirror, QemuNbd,
                                    Nbdkit, RawFile, TwoRawFiles)}
