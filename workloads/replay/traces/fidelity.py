#!/usr/bin/env python3
"""Compares replays with the recorded server: fidelity.py [REPS] [TRACE.fbt …]

Replays each trace under the allocator and settings it was recorded with (glibc, defaults) and prints the heap's
resident memory at its peak and at the end beside what heap_rss.py saw in the server, as a table in Markdown.
FRAGBENCH names the program (default: target/release/fragbench of this workspace)."""

import csv
import json
import os
import pathlib
import subprocess
import sys
import tempfile

here = pathlib.Path(__file__).resolve().parent
fragbench = os.environ.get("FRAGBENCH", here / "../../../target/release/fragbench")
reps = sys.argv[1] if len(sys.argv) > 1 else "5"
traces = [pathlib.Path(t) for t in sys.argv[2:]] or sorted(here.glob("*.fbt"))

print("| trace | | server | replay (lowest to highest) | difference |")
print("|---|---|---|---|---|")
for trace in traces:
    with open(trace.with_suffix(".memory.csv"), encoding="ascii") as file:
        seen = [int(row["heap_rss_bytes"]) for row in csv.DictReader(file)]
    with tempfile.TemporaryDirectory() as scratch:
        command = [fragbench, "replay", trace, "--allocator", "glibc", "--arena-max", "default", "--reps", reps]
        subprocess.run([*command, "-o", f"{scratch}/r"], check=True, capture_output=True)
        with open(f"{scratch}/r/summary.json", encoding="utf-8") as file:
            (cell,) = json.load(file)["cells"]
    if cell["failed"]:
        sys.exit(f"{trace}: {cell['failed']} of {cell['runs']} replays failed")
    for what, server, metric in [("peak", max(seen), "heap_rss_peak_bytes"), ("end", seen[-1], "heap_rss_end_bytes")]:
        replay = cell["metrics"][metric]
        mib = lambda size: f"{size / (1 << 20):.1f}"
        print(
            f"| {trace.stem} | {what} | {mib(server)} MiB | {mib(replay['median'])} MiB "
            f"({mib(replay['lo'])} to {mib(replay['hi'])}) | {replay['median'] / server - 1:+.1%} |"
        )
