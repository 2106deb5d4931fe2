"""Results as a table and as a plot. A result file holds, for each workload and contender, a list of rounds."""
import statistics


def median(rounds, key):
    values = [result[key] for result in rounds if key in result]
    return statistics.median(values) if values else None


def value_key(workload):
    if workload.startswith("pgbench"):
        return "transactions-per-second"
    return "bytes-per-second" if workload.startswith("write-") else "iops"


def shown(workload, value):
    if value is None:
        return "-"
    return f"{value / 2**20:,.0f} MiB/s" if workload.startswith("write-") else f"{value:,.0f}"


def ratios_of(rounds, other_rounds, key):
    """Each round has both, one after the other."""
    return [mine[key] / other[key] for mine, other in zip(rounds, other_rounds) if key in mine and other.get(key)]


def ratio(rounds, other_rounds, key):
    """The median of the rounds' ratios."""
    values = ratios_of(rounds, other_rounds, key)
    return statistics.median(values) if values else None


REFERENCE = "lockstep-C"


def ratios(results):
    """For each workload and contender: how many times as much Lockstep did, a number for each round."""
    return {workload: {name: ratios_of(contenders[REFERENCE], rounds, value_key(workload))
                       for name, rounds in contenders.items() if name != REFERENCE}
            for workload, contenders in results.items() if REFERENCE in contenders}


def best_of(workload, results, names, key):
    there = [name for name in names if name in results[workload]]
    return max(there, key=lambda name: median(results[workload][name], key), default=None)


def table(results):
    lines = []
    for workload, contenders in results.items():
        key = value_key(workload)
        lines += [f"### {workload}", "", f"| contender | median | range | {REFERENCE}: times it | p50 µs | p99 µs | p99.9 µs | CPU µs | switches | "
                  "syscalls | MiB |",
                  "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
        for name, rounds in contenders.items():
            values = [result[key] for result in rounds]
            cells = [name, shown(workload, statistics.median(values)), f"{shown(workload, min(values))} – {shown(workload, max(values))}"]
            times = ratio(contenders[REFERENCE], rounds, key) if REFERENCE in contenders and name != REFERENCE else None
            cells.append("-" if times is None else f"{times:.2f}")
            operation = "transaction" if workload.startswith("pgbench") else "operation"
            for cell, form in (("p50-us", "{:,.0f}"), ("p99-us", "{:,.0f}"), ("p99.9-us", "{:,.0f}"),
                               (f"processor-us-per-{operation}", "{:.1f}"), (f"context-switches-per-{operation}", "{:.2f}"),
                               (f"system-calls-per-{operation}", "{:.2f}")):
                value = median(rounds, cell)
                cells.append("-" if value is None else form.format(value))
            resident = median(rounds, "resident-bytes")
            cells.append("-" if not resident else f"{resident / 2**20:.0f}")
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


MIRRORS = ("quorum", "quorum-unix", "mirror", "mirror-unix")
# What is aimed at: workload, whose figure, against whom (the best of several), how many times as much; or, the other
# way round, at most so much of the other's processor time.
GOALS = (
    ("randwrite-4k-qd32", "lockstep-C", MIRRORS, 3.0),
    ("randwrite-4k-qd32", "lockstep-C", ("qemu-nbd",), 1.9),
    ("randwrite-4k-qd32", "lockstep-C", ("two-raw",), 0.65),
    ("randwrite-4k-qd128", "lockstep-C", MIRRORS, 4.0),
    ("randwrite-4k-qd1", "lockstep-C", MIRRORS, 1.8),
    ("randwrite-4k-flush", "lockstep-C", MIRRORS, 1.5),
    ("randwrite-4k-flush", "lockstep-C", ("two-raw",), 0.6),
    ("write-256k", "lockstep-C", MIRRORS, 2.0),
    ("randread-4k-qd32", "lockstep-C", ("raw",), 0.85),
    ("pgbench-8", "lockstep-C", MIRRORS, 1.3),
    ("pgbench-8", "lockstep-C", ("qemu-nbd",), 0.85),
    ("pgbench-8", "lockstep-C", ("pg-streaming",), 0.8),
)
PROCESSOR_GOAL = ("randwrite-4k-qd32", "lockstep-C", "quorum", 0.15)


def goals(results):
    lines = ["| work | against | aim | measured |", "| --- | --- | ---: | ---: |"]
    for workload, name, others, aim in GOALS:
        if name not in results.get(workload, {}):
            continue
        key = value_key(workload)
        other = best_of(workload, results, others, key)
        if other is None:
            continue
        measured = ratio(results[workload][name], results[workload][other], key)
        lines.append(f"| {workload} | {other} | ≥ {aim} | {measured:.2f} |")
    workload, name, other, aim = PROCESSOR_GOAL
    key = "processor-us-per-operation"
    if name in results.get(workload, {}) and other in results[workload]:
        measured = ratio(results[workload][name], results[workload][other], key)
        if measured is not None:
            lines.append(f"| {workload}: processor time | {other} | ≤ {aim} | {measured:.2f} |")
    return "\n".join(lines) + "\n"


COLOURS = ("#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00", "#cc79a7", "#f0e442", "#999999", "#444444", "#bbbbbb", "#000000")


def plot(results):
    """Bars, a panel for each workload, each scaled to its best contender. SVG."""
    names = list(dict.fromkeys(name for contenders in results.values() for name in contenders))
    bar, gap, left, width = 14, 26, 110, 430
    rows, height = [], 10
    for workload, contenders in results.items():
        key = value_key(workload)
        medians = {name: median(rounds, key) for name, rounds in contenders.items()}
        top = max(medians.values()) or 1
        height += 18
        rows.append(f'<text x="10" y="{height}" font-weight="bold">{workload}</text>')
        for name, value in medians.items():
            height += bar + 2
            length = width * value / top
            colour = COLOURS[names.index(name) % len(COLOURS)]
            rows.append(f'<text x="{left - 6}" y="{height}" text-anchor="end">{name}</text>'
                        f'<rect x="{left}" y="{height - bar + 3}" width="{length:.1f}" height="{bar}" fill="{colour}"/>'
                        f'<text x="{left + length + 4:.1f}" y="{height}">{shown(workload, value)}</text>')
        height += gap - 18
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 120}" height="{height + 10}" '
            f'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>' + "".join(rows) + "</svg>\n")
