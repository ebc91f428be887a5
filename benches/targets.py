#!/usr/bin/env python3
"""Measures what recording and replaying cost, in paired runs, and prints a table in Markdown.

    cargo build --release --workspace --examples --bins --lib && benches/targets.py [ROUNDS] [NAME …]

Names: recorder, record, trace, pack, passes, replay, cross, storm, threads, memory, survey, sampler, timer, mariadb (default:
all). Needs cc; `mariadb` needs Debian's mariadb-server and sysbench and takes a minute and a half. Rows whose growth matters
come at a tenth, one and ten times their size, the largest once. Nothing is judged: medians over ROUNDS interleaved rounds, lowest and
highest beside them. Run it on a quiet machine. FRAGBENCH_TARGET names the directory of the built programs."""

import json
import os
import pathlib
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

root = pathlib.Path(__file__).resolve().parent.parent
built = pathlib.Path(os.environ.get("FRAGBENCH_TARGET", root / "target/release")).resolve()
fragbench = built / "fragbench"
recorder = built / "libfragbench_recorder.so"
rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
ALL = ["recorder", "record", "trace", "pack", "passes", "replay", "cross", "storm", "threads", "memory", "survey", "sampler",
       "timer", "mariadb"]
wanted = sys.argv[2:] or ALL
if unknown := set(wanted) - set(ALL):
    sys.exit(f"no such rows: {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
scratch = tempfile.TemporaryDirectory(prefix="fragbench-targets.")
work = pathlib.Path(scratch.name)
# To see that the rows work: FRAGBENCH_TARGETS_PART=100 measures a hundredth of the work, which says nothing.
PART = int(os.environ.get("FRAGBENCH_TARGETS_PART", 1))
PAIRS = 20_000_000 // PART


def row(what, values, form):
    low, high = min(values), max(values)
    print(f"| {what} | {form(statistics.median(values))} ({form(low)} to {form(high)}), n = {len(values)} |", flush=True)


def run(command, **options):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True, **options).stdout


def pairs_program():
    program = work / "pairs"
    if not program.exists():
        run(["cc", "-O2", "-pthread", "-o", program, root / "harness/recorder/targets/pairs.c"])
    return program


def pairs(count, *more, recorded=False):
    """Nanoseconds of wall time a pair, and of processor time; two threads over 10,000 slots each."""
    environment = dict(os.environ)
    if recorded:
        for old in work.glob("p.*.spool"):
            old.unlink()
        environment |= {"LD_PRELOAD": str(recorder), "FRAGBENCH_SPOOL": str(work / "p")}
    wall, cpu = run([pairs_program(), 2, count, 10_000, *more], env=environment).split()
    return float(wall), float(cpu)


def replay(trace, *options):
    out = work / "replayed"
    run(["rm", "-rf", out])
    run([fragbench, "replay", trace, "--allocator", "glibc", "--arena-max", "default", "--reps", 1, "--idle", "1ms",
         "--latency-every", 0, "-o", out, *options])
    records = [json.loads(line) for line in (out / "runs.jsonl").read_text().splitlines()]
    assert all(record["status"] == "ok" for record in records), records
    return records


def processor_time(command, **options):
    """Seconds of processor time of a command and what it starts, with what it printed."""
    used = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    before = used()
    said = run(command, **options)
    return used() - before, said


def sizes(one):
    """A tenth, one and ten times, with how often each is measured."""
    one //= PART
    return [(one // 10, rounds), (one, rounds), (one * 10, 1)]


def millions(number):
    return f"{number / 1e6:g} M"


class Watch(threading.Thread):
    """The most bytes on the disk that the spools in a directory take."""

    def __init__(self, directory):
        super().__init__()
        self.directory, self.most, self.ended = directory, 0, threading.Event()

    def run(self):
        while not self.ended.wait(0.01):
            held = 0
            for spool in self.directory.glob("*.spools/*.spool"):
                try:
                    held += spool.stat().st_blocks * 512
                except FileNotFoundError:
                    pass
            self.most = max(self.most, held)


def spool_of(count):
    """The spool of a recording of so many pairs a thread, not packed."""
    pairs(count, recorded=True)
    return next(work.glob("p.*.spool"))


print("| quantity | median (lowest to highest) |\n|---|---|")

if "recorder" in wanted:
    for label, more in [("first byte written", []), ("whole block written", ["fill"])]:
        ratios, added = [], []
        for _ in range(rounds):
            plain, plain_cpu = pairs(PAIRS, *more)
            recorded, recorded_cpu = pairs(PAIRS, *more, recorded=True)
            ratios.append(recorded / plain)
            added.append((recorded_cpu - plain_cpu) / 2)
        row(f"recorded over unrecorded time, 2 × 20 M pairs, {label}", ratios, lambda v: f"{v:.2f}")
        row(f"processor time added an event, {label}", added, lambda v: f"{v:.1f} ns")

if "record" in wanted:
    for mode in [[], ["--spool-only"]]:
        for count, times in sizes(10_000_000):
            ratios, most = [], []
            for _ in range(times):
                begun = time.monotonic()
                pairs(count)
                bare = time.monotonic() - begun
                watch = Watch(work)
                watch.start()
                begun = time.monotonic()
                run([fragbench, "record", *mode, "-o", work / "r.fbt", "--", pairs_program(), 2, count, 10_000])
                ratios.append((time.monotonic() - begun) / bare)
                watch.ended.set()
                watch.join()
                most.append(watch.most / 2**20)
            how = " ".join(["record", *mode])
            row(f"`{how}` as a whole over the bare command, 2 × {millions(count)} pairs, first byte written", ratios,
                lambda v: f"{v:.2f}")
            row("its spool on the disk, at most", most, lambda v: f"{v:.0f} MiB")

if "pack" in wanted:
    for count, times in sizes(5_000_000):
        spool = spool_of(count)
        costs = []
        for _ in range(times):
            used, _ = processor_time([fragbench, "trace", "pack", spool, "-o", work / "packed.fbt"])
            info = json.loads(run([fragbench, "trace", "info", work / "packed.fbt", "--format", "json"]))
            costs.append(used / info["events"] * 1e9)
        row(f"packing, processor time an event, {millions(info['events'])} events", costs, lambda v: f"{v:.1f} ns")

if "passes" in wanted:
    for what in ["count", "stat", "leaks", "profile"]:
        for count, times in sizes(5_000_000):
            packed = work / f"passes.{count}.fbt"
            if not packed.exists():
                run([fragbench, "trace", "pack", spool_of(count), "-o", packed])
            said = [run([built / "examples/passes", what, packed]) for _ in range(times)]
            rates = [float(re.search(r"([\d.]+) M events/s", line)[1]) for line in said]
            peak = max(int(re.search(r"(\d+) kB", line)[1]) for line in said)
            name = "events in recorded order" if what == "count" else f"`trace {what}`"
            row(f"{name}, {millions(4 * count)} events, at most {peak / 1024:.0f} MiB", rates, lambda v: f"{v:.1f} M events/s")

trace = work / "pairs.fbt"
if {"trace", "replay", "memory"} & set(wanted):
    pairs(PAIRS, recorded=True)
    spool = next(work.glob("p.*.spool"))
    run([fragbench, "trace", "pack", spool, "-o", trace])
    info = json.loads(subprocess.run([fragbench, "trace", "info", trace, "--format", "json"], capture_output=True).stdout)
    if "trace" in wanted:
        row("spool, bytes an event", [spool.stat().st_size / info["events"]], lambda v: f"{v:.2f}")
        row("trace, bytes an event", [info["bytes_per_event"]], lambda v: f"{v:.2f}")
    spool.unlink()

if "replay" in wanted:
    for label, more, touch in [("first byte", [], "page"), ("whole block", ["fill"], "full")]:
        ratios = []
        for _ in range(rounds):
            wall, _ = pairs(PAIRS, *more)
            own = 2 * 2 * 1e9 / wall
            ratios += [record["metrics"]["ops_per_s"] / own for record in replay(trace, "--touch", touch)]
        row(f"replay of the recorded pairs, calls a second over the program's own, {label} written", ratios,
            lambda v: f"{100 * v:.0f} %")

if "cross" in wanted:
    crossed = work / "cross.fbt"
    run([built / "examples/synth", "producer-consumer", 5_000_000, crossed])
    rates = [record["metrics"]["ops_per_s"] / 1e6 for _ in range(rounds) for record in replay(crossed)]
    row("replay, every free on another thread, M calls a second", rates, lambda v: f"{v:.1f}")

if "storm" in wanted:
    for threads in [51, 511, 5_110]:
        storm = work / "storm.fbt"
        run([built / "examples/synth", "storm", threads, storm])
        rates = [record["metrics"]["ops_per_s"] / 1e6 for _ in range(rounds) for record in replay(storm)]
        row(f"replay of a storm of {threads} threads, virtual pace, M calls a second", rates, lambda v: f"{v:.2f}")

if "threads" in wanted:
    many = work / "threads.fbt"
    run([built / "examples/synth", "threads", 20_000, many])
    [record] = replay(many)
    row("threads in a replay", [record["done"]["threads_started"] + 1], lambda v: f"{v:.0f}")

if "survey" in wanted:
    holder = work / "holder"
    (work / "holder.c").write_text("""
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv) {
    long size = atol(argv[1]), count = atol(argv[2]);
    for (long i = 0; i < count; i++) { char *p = malloc(size - 8); p[0] = 1; if (i % 16 == 3) free(p); }
    puts("ready");
    fflush(stdout);
    return getchar() == 'x';
}""")
    run(["cc", "-O1", "-fno-builtin", "-o", holder, work / "holder.c"])
    for size in [64, 208]:
        for heap in [0.1 / PART, 1 / PART, 4 / PART]:
            process = subprocess.Popen([holder, str(size), str(int(heap * 2**30 / size))], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, text=True)
            process.stdout.readline()
            said = [run([built / "examples/survey", process.pid]) for _ in range(rounds)]
            process.communicate("")
            found = lambda pattern: [float(re.search(pattern, text)[1]) for text in said]
            row(f"survey of {heap:g} GiB of {size}-byte chunks", found(r"survey +([\d.]+) GB/s"), lambda v: f"{v:.2f} GB/s")
            row("copying the same memory", found(r"copy only ([\d.]+) GB/s"), lambda v: f"{v:.2f} GB/s")
            row("all figures after it, share of the survey's time", found(r"figures +([\d.]+) %"), lambda v: f"{v:.0f} %")

if "memory" in wanted:
    # 80 M events of pairs; what the worker holds besides the heap under test, slots of 20,000 live blocks included.
    held = [record["metrics"]["rss_peak_bytes"] - record["metrics"]["heap_rss_peak_bytes"] for record in replay(trace)]
    row(f"harness memory while replaying {info['events'] / 1e6:.0f} M events, MiB", [h / 2**20 for h in held],
        lambda v: f"{v:.1f}")

if "sampler" in wanted:
    costs, sizes = [], []
    for _ in range(rounds):
        out = work / "sampled"
        run(["rm", "-rf", out])
        run([fragbench, "run", "mysql/oltp-read-write", "--allocator", "glibc", "--arena-max", "default", "--reps", 1,
             "--scale", 8, "--idle", "1ms", "-o", out])
        costs += [json.loads(line)["sampler_cpu_ratio"] * 100 for line in (out / "runs.jsonl").read_text().splitlines()]
    row("sampler at 5 ms, share of a core", costs, lambda v: f"{v:.2f} %")

if "timer" in wanted:
    # What waking two hundred times a second costs by itself, in a program that does nothing else.
    (work / "timer.c").write_text("""
#include <stdio.h>
#include <time.h>
static double now(clockid_t id) { struct timespec t; clock_gettime(id, &t); return t.tv_sec + t.tv_nsec / 1e9; }
int main(void) {
    struct timespec interval = {0, 5000000};
    double wall = now(CLOCK_MONOTONIC), cpu = now(CLOCK_THREAD_CPUTIME_ID);
    for (int i = 0; i < 400; i++) clock_nanosleep(CLOCK_MONOTONIC, 0, &interval, NULL);
    printf("%f", 100 * (now(CLOCK_THREAD_CPUTIME_ID) - cpu) / (now(CLOCK_MONOTONIC) - wall));
    return 0;
}""")
    run(["cc", "-O2", "-o", work / "timer", work / "timer.c"])
    row("a loop that only sleeps 5 ms, share of a core", [float(run([work / "timer"])) for _ in range(rounds)],
        lambda v: f"{v:.2f} %")


def mariadb():
    """Transactions a second while recording is switched on and off every two seconds in one server."""
    data, socket, pid = work / "data", work / "s", work / "pid"
    options = ["--no-defaults", f"--datadir={data}", f"--socket={socket}", f"--pid-file={pid}", "--skip-networking",
               "--user=root", "--innodb-buffer-pool-size=128M", "--innodb-flush-log-at-trx-commit=0"]
    run(["mariadb-install-db", *options, "--auth-root-authentication-method=normal", "--skip-test-db"])
    server = subprocess.Popen([fragbench, "record", "-o", work / "m.fbt", "--signal", "12", "--", "mariadbd", *options],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = ["mariadb", "--no-defaults", f"--socket={socket}", "--user=root", "-e"]
    while subprocess.run([*client, "CREATE DATABASE IF NOT EXISTS b"], capture_output=True).returncode:
        time.sleep(0.1)
    bench = ["sysbench", "oltp_read_write", "--db-driver=mysql", f"--mysql-socket={socket}", "--mysql-user=root",
             "--mysql-db=b", "--tables=4", "--table-size=10000", "--threads=64"]
    run([*bench, "prepare"])
    load = subprocess.Popen([*bench, "--time=0", "--events=0", "--report-interval=0", "run"], stdout=subprocess.DEVNULL)
    target = int(pid.read_text())
    questions = [*client[:-1], "--batch", "--skip-column-names", "-e", "SHOW GLOBAL STATUS LIKE 'Com_commit'"]

    def rate():
        before, begun = int(run(questions).split()[1]), time.monotonic()
        time.sleep(2)
        return (int(run(questions).split()[1]) - before) / (time.monotonic() - begun)

    lost = []
    try:
        time.sleep(5)
        for _ in range(15):
            recorded = rate()
            os.kill(target, signal.SIGUSR2)
            plain = rate()
            os.kill(target, signal.SIGUSR2)
            lost.append(100 * (1 - recorded / plain))
    finally:
        load.terminate()
        load.wait()
        server.send_signal(signal.SIGTERM)
        server.wait()
    quartiles = statistics.quantiles(lost, n=4)
    print(f"| MariaDB OLTP throughput lost while recorded | {statistics.median(lost):.1f} % "
          f"(quartiles {quartiles[0]:.1f} to {quartiles[2]:.1f}), n = {len(lost)} |")


if "mariadb" in wanted:
    mariadb()
