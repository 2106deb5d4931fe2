"""What is done to a contender: fio's jobs. A result has operations and bytes a second and the latency's percentiles."""
import json
import os

from processes import Usage, run, system_calls_during


class Workload:
    def __init__(self, name, **fio):
        self.name = name
        self.fio = {"bs": "4k", "iodepth": 1, **fio}

    def is_write(self):
        return "write" in self.fio["rw"] or self.fio["rw"] == "randrw"


ALL = {workload.name: workload for workload in (
    Workload("randwrite-4k-qd1", rw="randwrite"),
    Workload("randwrite-4k-qd8", rw="randwrite", iodepth=8),
    Workload("randwrite-4k-qd32", rw="randwrite", iodepth=32),
    Workload("randwrite-4k-qd128", rw="randwrite", iodepth=128),
    Workload("randwrite-4k-4x8", rw="randwrite", iodepth=8, numjobs=4),
    Workload("randwrite-4k-flush", rw="randwrite", fsync=1),
    Workload("write-64k", rw="write", bs="64k", iodepth=16),
    Workload("write-256k", rw="write", bs="256k", iodepth=8),
    Workload("write-1m", rw="write", bs="1m", iodepth=4),
    Workload("randread-4k-qd32", rw="randread", iodepth=32),
    Workload("randrw-70-30-qd32", rw="randrw", rwmixread=70, iodepth=32),
)}


def command_of(workload, target, size_bytes, seconds, ramp_seconds):
    job = {"size": size_bytes, "time_based": 1, "runtime": seconds, "ramp_time": ramp_seconds, "randrepeat": 0,
           "norandommap": 1, "group_reporting": 1, "output-format": "json", **workload.fio}
    common = [f"--{key}={value}" for key, value in job.items()]
    if isinstance(target, str):
        return ["fio", *common, "--ioengine=nbd", f"--uri={target}", "--name=load"]
    files = []
    for path in target:  # one job for each file, all in one group
        files += ["--name=load", f"--filename={path}"]
    return ["fio", *common, "--ioengine=io_uring", "--direct=1", *files]


def percentiles(side):
    values = side["clat_ns"].get("percentile", {})
    return {name: values.get(key, 0) / 1000 for name, key in (("p50-us", "50.000000"), ("p99-us", "99.000000"), ("p99.9-us", "99.900000"))}


def flush_disks(paths):
    """A virtual disk may have whatever was written before in its host's memory: whoever flushes next would pay for it."""
    for path in paths:
        descriptor = os.open(path, os.O_WRONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def measure(workload, contender, options):
    flush_disks(options.disks)
    before = Usage(contender.pids)
    text = run(command_of(workload, contender.target, options.size_bytes, options.seconds, options.ramp_seconds))
    used = Usage(contender.pids).since(before)
    job = json.loads(text[text.index("{\n"):])["jobs"][0]  # fio may print notes before its document
    if job["error"] != 0:
        raise RuntimeError(f"{workload.name} on {contender.name}: fio ended with error {job['error']}")
    sides = [job[name] for name in ("read", "write") if job[name]["total_ios"] > 0]
    operations = sum(side["iops"] for side in sides)
    # Two files are written by one job each: a write counts when it is on both.
    divisor = len(contender.target) if isinstance(contender.target, list) else 1
    total = operations * (options.seconds + options.ramp_seconds)  # the daemons' time is that of the ramp, too
    result = {"iops": operations / divisor, "bytes-per-second": sum(side["bw_bytes"] for side in sides) / divisor,
              **percentiles(sides[-1]), "resident-bytes": used["resident-bytes"]}
    if contender.pids and total > 0:
        result["processor-us-per-operation"] = used["processor-us"] / total
        result["context-switches-per-operation"] = used["context-switches"] / total
    return result


def count_system_calls(workload, contender, options):
    """By a run of its own, since to count them costs time. None where perf cannot."""
    command = command_of(workload, contender.target, options.size_bytes, min(2, options.seconds), 0)
    text, calls = system_calls_during(contender.pids, lambda: run(command))
    job = json.loads(text[text.index("{\n"):])["jobs"][0]
    operations = sum(job[name]["total_ios"] for name in ("read", "write"))
    return calls / operations if calls is not None and operations else None
