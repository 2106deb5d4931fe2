"""Processes of a benchmark: started, measured by what /proc says of them, ended."""
import os
import platform
import signal
import subprocess
import time

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def run(arguments, **options):
    """Runs to the end; an error is an exception that shows what the program said."""
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, arguments))}: exit status {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def wait_until(what, condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {seconds} s")
        time.sleep(0.02)


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")
    return {"processors": os.cpu_count(), "model": model, "kernel": platform.release()}


class Background:
    """A program in the background that ends with end(), whatever happened meanwhile."""

    def __init__(self, arguments, log):
        self._log = open(log, "ab")
        self._process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
        self.pid = self._process.pid

    def is_alive(self):
        return self._process.poll() is None

    def end(self, number=signal.SIGTERM):
        if self.is_alive():
            self._process.send_signal(number)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.close()


def proportional_bytes(pid):
    """Resident memory; of what several processes share, each has its part."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))


class Usage:
    """What a set of processes has used: processor time, context switches, resident memory."""

    def __init__(self, pids):
        self.processor_us = 0.0
        self.context_switches = 0
        self.resident_bytes = 0
        for pid in pids:
            with open(f"/proc/{pid}/stat", encoding="ascii") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            self.processor_us += (int(fields[11]) + int(fields[12])) * 1e6 / TICKS_PER_SECOND
            self.resident_bytes += proportional_bytes(pid)
            for thread in os.listdir(f"/proc/{pid}/task"):
                try:
                    with open(f"/proc/{pid}/task/{thread}/status", encoding="ascii") as file:
                        for line in file:
                            if "ctxt_switches" in line:
                                self.context_switches += int(line.split()[1])
                except FileNotFoundError:
                    pass  # the thread has ended

    def since(self, before):
        return {
            "processor-us": self.processor_us - before.processor_us,
            "context-switches": self.context_switches - before.context_switches,
            "resident-bytes": self.resident_bytes,
        }


def system_calls_during(pids, action):
    """What the action returns, and how many system calls the processes made meanwhile; None where perf cannot tell."""
    command = ["perf", "stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-p", ",".join(map(str, pids))]
    try:
        perf = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    except FileNotFoundError:
        return action(), None
    try:
        time.sleep(0.5)  # it attaches itself
        result = action()
    finally:
        perf.send_signal(signal.SIGINT)
        counted = perf.communicate()[1]
    for line in counted.splitlines():
        fields = line.split(",")
        if len(fields) > 2 and "sys_enter" in line and fields[0].isdigit():
            return result, int(fields[0])
    return result, None


def percentiles_of(values, parts):
    """{name: value} for {name: part of all}, by the nearest rank."""
    ordered = sorted(values)
    return {name: ordered[min(len(ordered) - 1, int(len(ordered) * part))] for name, part in parts.items()}
