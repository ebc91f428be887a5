#!/usr/bin/env python3
"""Measures what recording and replaying cost, in paired runs, and prints a table in Markdown.

    cargo build --release --workspace --examples --bins --lib && benches/targets.py [ROUNDS] [NAME …]

Names: recorder, trace, replay, cross, memory, sampler, timer, mariadb (default: all). Needs cc; `mariadb` needs Debian's
mariadb-server and sysbench and takes a minute and a half. Nothing is judged: medians over ROUNDS interleaved rounds, lowest and
highest beside them. Run it on a quiet machine. FRAGBENCH_TARGET names the directory of the built programs."""

import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

root = pathlib.Path(__file__).resolve().parent.parent
built = pathlib.Path(os.environ.get("FRAGBENCH_TARGET", root / "target/release")).resolve()
fragbench = built / "fragbench"
recorder = built / "libfragbench_recorder.so"
rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
wanted = sys.argv[2:] or ["recorder", "trace", "replay", "cross", "memory", "sampler", "timer", "mariadb"]
scratch = tempfile.TemporaryDirectory(prefix="fragbench-targets.")
work = pathlib.Path(scratch.name)
PAIRS = 20_000_000


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
