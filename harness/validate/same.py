#!/usr/bin/env python3
"""Compares an allocator with itself under two names, many times, and counts how often `fragbench compare` recommends one of
the two: it should never.

    harness/validate/same.py -n 20
    harness/validate/same.py -n 20 --reps 15 -- sort -R --lines 100000 words.txt

glibc's malloc is the baseline, and `same` is the same library preloaded: the same code at another place. So a machine that
drifts, an order that favours the first, or a statistic that finds what is not there would show here. Exit status 1 when
anything was recommended or a compare failed. Refuses to guess: the C library is the one that this interpreter has mapped.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
# A fifth of a second of work: many blocks, most of them above what Python's own pools hand out (512 bytes), freed in another order.
PROGRAM = """
import random
random.seed(7)
kept = {i: bytes(random.randrange(400, 4000)) for i in range(30000)}
for i in random.sample(sorted(kept), 20000):
    del kept[i]
text = b"".join(kept.values())
"""
RECOMMENDS = ("switch", "tune")


class CompareError(Exception):
    """What a compare said when it failed."""


def own_libc():
    """The C library that this process runs on."""
    found = re.search(r"/\S*/libc(-[0-9.]+)?\.so(\.6)?$", pathlib.Path("/proc/self/maps").read_text(), re.MULTILINE)
    if found is None:
        raise CompareError("this interpreter has no libc.so.6 mapped: glibc is not what it runs on")
    return found[0]


def compare(fragbench, command, reps, seed, scratch):
    """The summary of one compare."""
    out = pathlib.Path(scratch) / str(seed)
    line = [fragbench, "compare", "--allocator", f"glibc,same={own_libc()}", "--arena-max", "default", "--format", "json"]
    line += ["--reps", str(reps), "--seed", str(seed), "-o", out, "--", *command]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        raise CompareError(f"fragbench compare: exit status {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def outcome(summary):
    """What is to be shown of a compare, and whether it recommends."""
    verdict = summary["verdict"]
    cells = {cell["allocator"]: cell for cell in summary["cells"]}
    if "same" not in cells or cells["same"]["failed"] or cells["glibc"]["failed"]:
        raise CompareError("not every run succeeded: " + "; ".join(verdict["reasons"]))
    effects = summary["comparisons"][0]["effects"]
    parts = [
        "{} {:.3f} ({:.3f} to {:.3f})".format(name, *(effects[metric]["ratio"][key] for key in ("median", "lo", "hi")))
        for name, metric in (("peak", "heap_rss_peak_bytes"), ("runs/s", "runs_per_s"))
        if metric in effects
    ]
    recommends = verdict["kind"] in RECOMMENDS
    return recommends, f"{verdict['kind']}: same over glibc: {', '.join(parts)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-n", type=int, default=20, metavar="N", help="compares [default: 20]")
    parser.add_argument("--reps", type=int, default=15, metavar="N", help="blocks of each [default: 15]")
    parser.add_argument("--fragbench", type=pathlib.Path, default=HERE / "../../target/release/fragbench", metavar="PROGRAM")
    parser.add_argument("command", nargs="*", help="what is compared [default: a Python program of a fifth of a second]")
    options = parser.parse_args()
    command = options.command or [sys.executable, "-c", PROGRAM]
    wrong = 0
    try:
        with tempfile.TemporaryDirectory(prefix="fragbench-same-") as scratch:
            for seed in range(1, options.n + 1):
                recommends, line = outcome(compare(options.fragbench, command, options.reps, seed, scratch))
                wrong += recommends
                print(f"{seed:3}  {line}", flush=True)
    except (CompareError, OSError) as error:
        sys.exit(f"same.py: {error}")
    print(f"{wrong} of {options.n} recommend a change")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
