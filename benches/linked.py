#!/usr/bin/env python3
"""What linking an allocator into a Rust program saves over preloading it: the same work under glibc's malloc, preloaded
libraries, and `#[global_allocator]` with the crates `tikv-jemallocator` and `mimalloc`.

    cargo build --release && cargo build --release -p fragbench-benches --examples && benches/linked.py [ROUNDS] [PLOT.svg]

Interleaved rounds; medians with lowest and highest, and a plot. Times are of a machine, ratios within a round are compared."""

import os
import pathlib
import statistics
import subprocess
import sys

root = pathlib.Path(__file__).resolve().parent.parent
built = pathlib.Path(os.environ.get("FRAGBENCH_TARGET", root / "target/release")).resolve()
rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 11
plot = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None
WAYS = {
    "glibc": ("linked_glibc", None),
    "jemalloc, preloaded": ("linked_glibc", "libfragbench_jemalloc.so"),
    "jemalloc, linked": ("linked_jemalloc", None),
    "mimalloc, preloaded": ("linked_glibc", "libfragbench_mimalloc.so"),
    "mimalloc, linked": ("linked_mimalloc", None),
}


def measure(program, library):
    """Nanoseconds a pair, MiB at the peak."""
    environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    if library:
        assert (built / library).exists(), f"{built / library} is missing: cargo build --release"
        environment["LD_PRELOAD"] = str(built / library)
    said = subprocess.run([built / "examples" / program], env=environment, check=True, capture_output=True, text=True)
    ns, kib = said.stdout.split()
    return float(ns), float(kib) / 1024


def of(values):
    return statistics.median(values), min(values), max(values)


def draw(figures):
    """Medians as dots, lowest to highest as lines; time left, memory right."""
    width, line, label, gap = 300, 30, 150, 40
    height = line * (len(figures) + 2)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{label + 2 * (width + gap)}" height="{height}" '
           'font-family="sans-serif" font-size="13">', '<rect width="100%" height="100%" fill="white"/>']
    for column, (title, unit) in enumerate([("time a pair of malloc and free", "ns"), ("peak of resident memory", "MiB")]):
        left = label + column * (width + gap)
        most = max(values[column][2] for values in figures.values())
        out.append(f'<text x="{left}" y="{line * 0.6}">{title}, {unit}</text>')
        for number, (way, values) in enumerate(figures.items()):
            middle, low, high = (left + width * 0.85 * value / most for value in values[column])
            y = line * (number + 1.5)
            if column == 0:
                out.append(f'<text x="{label - 8}" y="{y + 4}" text-anchor="end">{way}</text>')
            colour = "#1b6ca8" if "linked" in way else "#888888" if "preloaded" in way else "#222222"
            out.append(f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2"/>')
            out.append(f'<circle cx="{middle:.1f}" cy="{y}" r="4" fill="{colour}"/>')
            out.append(f'<text x="{high + 8:.1f}" y="{y + 4}">{values[column][0]:.1f}</text>')
        out.append(f'<line x1="{left}" x2="{left}" y1="{line}" y2="{height - line}" stroke="black"/>')
        out.append(f'<text x="{left}" y="{height - line * 0.3}" text-anchor="middle">0</text>')
    return "\n".join([*out, "</svg>\n"])


runs = {way: [] for way in WAYS}
for _ in range(rounds):
    for way, (program, library) in WAYS.items():
        runs[way].append(measure(program, library))

print("| way | time a pair | peak of resident memory |\n|---|---|---|")
figures = {}
for way, measured in runs.items():
    figures[way] = [of([run[part] for run in measured]) for part in range(2)]
    (ns, *around), (mib, *about) = figures[way]
    print(f"| {way} | {ns:.1f} ns ({around[0]:.1f} to {around[1]:.1f}) | {mib:.1f} MiB ({about[0]:.1f} to {about[1]:.1f}) |")
for name in ["jemalloc", "mimalloc"]:
    for part, what in enumerate(["time", "memory"]):
        pairs = zip(runs[f"{name}, linked"], runs[f"{name}, preloaded"])
        middle, low, high = of([linked[part] / preloaded[part] for linked, preloaded in pairs])
        print(f"\n{name}, linked over preloaded, {what}: {middle:.2f} ({low:.2f} to {high:.2f}), n = {rounds}", end="")
print()
if plot:
    plot.write_text(draw(figures))
