#!/usr/bin/env python3
"""Does the virtual pace hold what the recorded one holds, and what does the clock cost? Run on a quiet machine:

    cargo build --release
    harness/validate/paces.py memory [TRACE…]      # the shipped traces by default; takes their recorded time, several times
    harness/validate/paces.py speed [TRACE…]       # ops a second of virtual over fast pace under glibc, paired

`memory` prints, per trace and cell, the median of peak, mean, end and both idles at the two paces, the difference, and how far
the runs at recorded pace lie apart. ok: within 5 %, or within that. Exits 1 where one is neither."""
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
FRAGBENCH = ROOT / "target/release/fragbench"
TRACES = sorted((ROOT / "workloads/replay/traces").glob("*.fbt"))
METRICS = ["peak", "mean", "end", "idle", "polled"]
LIBRARIES = pathlib.Path("/usr/lib/x86_64-linux-gnu")
# Options that make the cells of one result.
CELLS = [
    ["--allocator", "glibc", "--arena-max", "default,1,2"],
    ["--allocator", "glibc", "--arena-max", "default", "--setting", "MALLOC_TRIM_THRESHOLD_=131072"],
    ["--allocator", "glibc", "--arena-max", "default", "--setting", "FRAGBENCH_TRIM_EVERY_MS=1000"],
    ["--allocator", "jemalloc"],
    ["--allocator", "jemalloc", "--setting", "background_thread=true"],
    ["--allocator", "jemalloc", "--setting", "MALLOC_CONF=dirty_decay_ms:1000,muzzy_decay_ms:1000"],
    ["--allocator", "mimalloc"],
    ["--allocator", f"mimalloc-debian={LIBRARIES}/libmimalloc.so.2"],
    ["--allocator", f"tcmalloc={LIBRARIES}/libtcmalloc_minimal.so.4"],
]


def records(trace, pace, repetitions, options):
    """Runs of a replay that succeeded, the baseline's second copy left out."""
    with tempfile.TemporaryDirectory() as directory:
        out = pathlib.Path(directory) / "result"
        command = [FRAGBENCH, "replay", trace, "--pace", pace, "--reps", str(repetitions), "-o", out, "--format", "json"]
        done = subprocess.run([*map(str, command), *options], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))} {' '.join(options)}\n{done.stderr}")
        lines = [json.loads(line) for line in (out / "runs.jsonl").read_text().splitlines()]
    failed = [line["reason"] for line in lines if line["status"] != "ok"]
    if failed:
        sys.exit(f"{trace} {options}: {failed[0]}")
    return [line for line in lines if not line["aa"]]


def cells(runs):
    """Runs by allocator and settings."""
    found = {}
    for run in runs:
        name = " ".join([run["allocator"], *(f"{k}={v}" for k, v in run["settings"].items())])
        found.setdefault(name, []).append(run["metrics"])
    return found


def memory(traces):
    misses = 0
    for trace in traces:
        for options in CELLS:
            virtual = cells(records(trace, "virtual", 5, options))
            recorded = cells(records(trace, "recorded", 3, options))
            for cell, runs in recorded.items():
                for metric in METRICS:
                    name = f"heap_rss_{metric}_bytes"
                    there = [run[name] for run in runs]
                    here = statistics.median(run[name] for run in virtual[cell])
                    middle = statistics.median(there)
                    off, apart = here / middle - 1, (max(there) - min(there)) / middle
                    ok = abs(off) <= max(0.05, apart)
                    misses += not ok
                    print(
                        f"{trace.stem:18} {cell:48} {metric:6} {here / 2**20:8.1f} {middle / 2**20:8.1f} MiB "
                        f"{off:+7.1%} (recorded runs {apart:.1%} apart) {'ok' if ok else 'OFF'}",
                        flush=True,
                    )
    sys.exit(1 if misses else 0)


def speed(traces, pairs=15):
    options = ["--allocator", "glibc", "--arena-max", "default", "--idle", "1ms", "--monitor", "0"]
    for trace in traces:
        ratios = []
        for pair in range(pairs):
            # In turns first and second, so that a drift hits both.
            order = ["virtual", "fast"] if pair % 2 == 0 else ["fast", "virtual"]
            ops = {p: records(trace, p, 1, options)[0]["metrics"]["ops_per_s"] for p in order}
            ratios.append(ops["virtual"] / ops["fast"])
        ratios.sort()
        print(f"{trace.stem:18} virtual over fast {statistics.median(ratios):.3f}, {ratios[1]:.3f} to {ratios[-2]:.3f}")


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in ("memory", "speed"):
        sys.exit(__doc__)
    chosen = [pathlib.Path(name) for name in sys.argv[2:]] or TRACES
    memory(chosen) if sys.argv[1] == "memory" else speed(chosen)
