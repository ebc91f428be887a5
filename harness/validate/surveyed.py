#!/usr/bin/env python3
"""What a survey costs the process it looks at: a malloc benchmark of 16 threads, alone and while `fragbench inspect` looks at
it every few seconds, in blocks of ABBA or BAAB order.

    harness/validate/surveyed.py --fragbench target/release/fragbench

Two things are told apart. *Interference*: the benchmark's pairs of malloc and free for each second of processor time it had,
surveyed over alone; below 1 where the reader takes away caches or holds locks of the address space. *Share*: the processor
time the reader itself took, of one core; on a machine that is full, the benchmark goes without that much. Wall-clock
throughput is given too; it holds both, and whatever else ran. Ratios are of blocks; the median of blocks with a
95 % percentile bootstrap interval. Needs a C compiler.
"""

import argparse
import json
import pathlib
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent


class Benchmark:
    def __init__(self, program, threads):
        self.child = subprocess.Popen([program, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def totals(self):
        """Pairs so far, seconds of processor time so far, and the moment."""
        self.child.stdin.write(b"x")
        self.child.stdin.flush()
        pairs, cpu = self.child.stdout.readline().split()
        return int(pairs), int(cpu) / 1e9, time.monotonic()

    def end(self):
        self.child.kill()
        self.child.wait()


def children_cpu():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def stretch(benchmark, options, surveyed):
    """One stretch: pairs a processor second, pairs a second, the reader's share of a core, its surveys."""
    before, spent, surveys = benchmark.totals(), children_cpu(), 0
    end = before[2] + options.seconds
    while time.monotonic() < end:
        begun = time.monotonic()
        if surveyed:
            command = [options.fragbench, "inspect", str(benchmark.child.pid), "--format", "json"]
            seen = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            surveys += 1
            if not seen["coverage_ratio"]:
                sys.exit("surveyed.py: the survey saw no heap")
        time.sleep(max(0, min(end, begun + options.every) - time.monotonic()))
    after = benchmark.totals()
    pairs, cpu, wall = (now - then for now, then in zip(after, before))
    return {"a_cpu": pairs / cpu, "a_second": pairs / wall, "share": (children_cpu() - spent) / wall, "surveys": surveys}


def ratio(block, what):
    """Surveyed over alone within a block of four, which cancels a steady drift."""
    alone, surveyed = ([s[what] for with_reader, s in block if with_reader == which] for which in (False, True))
    return statistics.geometric_mean(surveyed) / statistics.geometric_mean(alone)


def interval(values, seed=1, draws=10_000):
    """Median and the 95 % percentile bootstrap interval of it."""
    draw = random.Random(seed)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(draws))
    return statistics.median(values), medians[int(0.025 * draws)], medians[int(0.975 * draws) - 1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fragbench", default="target/release/fragbench", help="[default: %(default)s]")
    parser.add_argument("--threads", type=int, default=16, help="of the benchmark [default: %(default)s]")
    parser.add_argument("--every", type=float, default=5, metavar="S", help="from one survey's begin to the next [default: 5]")
    parser.add_argument("--seconds", type=float, default=10, metavar="S", help="of a stretch [default: 10]")
    parser.add_argument("--blocks", type=int, default=12, help="of four stretches [default: %(default)s]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fragbench-surveyed-") as scratch:
        program = pathlib.Path(scratch) / "surveyed"
        subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-pthread", HERE / "surveyed.c", "-o", program], check=True)
        benchmark = Benchmark(program, options.threads)
        try:
            time.sleep(2)  # until the slots are full
            blocks, order = [], random.Random(1)
            for _ in range(options.blocks):
                first = order.random() < 0.5
                blocks.append([(w, stretch(benchmark, options, w)) for w in (first, not first, not first, first)])
        finally:
            benchmark.end()
    surveyed = [s for block in blocks for with_reader, s in block if with_reader]
    for what, name in (("a_cpu", "pairs a processor second"), ("a_second", "pairs a second")):
        middle, low, high = interval([ratio(block, what) for block in blocks])
        print(f"{name:26} surveyed / alone  {middle:.4f}  ({low:.4f} to {high:.4f}), {len(blocks)} blocks")
    middle, low, high = interval([s["share"] for s in surveyed])
    surveys = sum(s["surveys"] for s in surveyed)
    print(f"{'reader':26} share of a core   {middle:.4f}  ({low:.4f} to {high:.4f}), {surveys} surveys")


if __name__ == "__main__":
    main()
