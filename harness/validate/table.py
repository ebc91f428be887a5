"""Figures read back, summed up and set against the targets: summary.json and table.md."""

import json
from statistics import median

from agreement import POINTS, error, extreme_agrees, kendall_tau, spread

# Relative error of a replay at peak, end and idle; the median of them all; rank agreement.
REPLAY_ERROR, MEDIAN_ERROR, TAU = 0.10, 0.06, 0.8
# A model's distances from the recording, as `fragbench trace stat --against` names them, with the most allowed.
SHAPE = {
    "sizes_by_count_ks": 0.15,
    "sizes_by_bytes_ks": 0.15,
    "lifetimes_events_ks": None,
    "cross_thread_points": 5.0,
    "realloc_points": None,
    "live_nrmse": None,
    "live_events_nrmse": 0.15,
}
MIB = 1 << 20


def key(entry):
    return entry["part"], entry["scenario"], entry["allocator"], entry["repetition"]


def read_figures(path):
    """The last line of each run, by what it is a run of."""
    if not path.exists():
        return {}
    with open(path, encoding="utf-8") as file:
        return {key(entry): entry for entry in map(json.loads, file)}


def one_line(entry):
    what = " ".join(str(entry[field]) for field in ["part", "scenario", "allocator"] if entry[field])
    if "error" in entry:
        return f"{what}: {entry['error']}"
    points = entry.get("points", {})
    figures = ", ".join(f"{point} {points[point] / MIB:.1f}" for point in POINTS if points.get(point) is not None)
    return f"{what}: {figures} MiB in {entry['took_s']} s" if points else f"{what}: in {entry['took_s']} s"


def gather(entries, part, scenario, point):
    """Values of a point by allocator, over the repetitions."""
    values = {}
    for entry in entries:
        if entry["part"] == part and entry["scenario"] == scenario and "error" not in entry:
            value = entry["points"].get(point)
            if value is not None:
                values.setdefault(entry["allocator"], []).append(value)
    return values


def summarize(entries):
    """Everything table.md shows, as data."""
    scenarios = list(dict.fromkeys(entry["scenario"] for entry in entries))
    summary = {"targets": {"replay_error": REPLAY_ERROR, "median_error": MEDIAN_ERROR, "tau": TAU}, "scenarios": []}
    errors = []
    for scenario in scenarios:
        real = {point: gather(entries, "server", scenario, point) for point in POINTS}
        of = {part: {point: gather(entries, part, scenario, point) for point in POINTS} for part in ["replay", "model"]}
        cells = []
        for allocator in real["end"]:
            for point in POINTS:
                cell = {"allocator": allocator, "point": point, "real": median(real[point][allocator])}
                cell["spread"] = spread(real[point][allocator])
                replayed = of["replay"][point].get(allocator)
                if replayed:
                    cell["replay"] = median(replayed)
                    cell["replay_error"] = error(replayed, real[point][allocator])
                    if point != "purged":
                        cell["ok"] = abs(cell["replay_error"]) <= max(REPLAY_ERROR, cell["spread"] or 0)
                        errors.append(abs(cell["replay_error"]))
                if of["model"][point].get(allocator):
                    cell["model"] = median(of["model"][point][allocator])
                cells.append(cell)
        noise = max((cell["spread"] or 0 for cell in cells if cell["point"] == "end"), default=0)
        ends = {allocator: median(values) for allocator, values in real["end"].items()}
        ranking = {"noise": noise}
        for part in ["replay", "model"]:
            foretold = {allocator: median(values) for allocator, values in of[part]["end"].items()}
            if foretold:
                ranking[part] = {
                    "tau": kendall_tau(ends, foretold, noise),
                    "tau_of_all_pairs": kendall_tau(ends, foretold),
                    "best": extreme_agrees(ends, foretold, min, noise),
                    "worst": extreme_agrees(ends, foretold, max, noise),
                }
        shapes = [entry for entry in entries if entry["part"] == "shape" and entry["scenario"] == scenario]
        row = {"scenario": scenario, "cells": cells, "ranking": ranking}
        if shapes and "error" not in shapes[-1]:
            row["shape"] = shapes[-1]["distances"]
        summary["scenarios"].append(row)
    summary["median_error"] = median(errors) if errors else None
    return summary


def percent(value):
    return "–" if value is None else f"{value:+.1%}"


def verdict(ok):
    return "–" if ok is None else "ok" if ok else "**missed**"


def markdown(summary):
    lines = ["## Heap RSS, real server and replay", ""]
    lines += ["MiB, medians; *spread* is the distance of equal runs of the server.", ""]
    lines += ["| scenario | allocator | | server | spread | replay | error | within 10 % or spread | model |"]
    lines += ["|---|---|---|---|---|---|---|---|---|"]
    mib = lambda value: "–" if value is None else f"{value / MIB:.1f}"
    for row in summary["scenarios"]:
        for cell in row["cells"]:
            noise = "–" if cell["spread"] is None else f"{cell['spread']:.1%}"
            values = [row["scenario"], cell["allocator"], cell["point"], mib(cell["real"]), noise, mib(cell.get("replay"))]
            values += [percent(cell.get("replay_error")), verdict(cell.get("ok")), mib(cell.get("model"))]
            lines.append(f"| {' | '.join(values)} |")
    if summary["median_error"] is not None:
        good = verdict(summary["median_error"] <= MEDIAN_ERROR)
        lines += ["", f"Median error at peak, end and idle: {summary['median_error']:.1%} (target 6 %: {good})."]
    lines += ["", "## Ranking of allocators by heap RSS at the end", ""]
    lines += ["Kendall's tau over the pairs that the server tells apart (over all pairs in brackets).", ""]
    lines += ["| scenario | noise | tau, replay | best | worst | tau, model | best | worst |", "|---|---|---|---|---|---|---|---|"]
    for row in summary["scenarios"]:
        values = [row["scenario"], f"{row['ranking']['noise']:.1%}"]
        for part in ["replay", "model"]:
            rank = row["ranking"].get(part)
            tau = "–"
            if rank and rank["tau"] is not None:
                tau = f"{rank['tau']:.2f} ({rank['tau_of_all_pairs']:.2f})"
                if part == "replay":
                    tau += f" {verdict(rank['tau'] >= TAU)}"
            values += [tau, verdict(rank and rank["best"]), verdict(rank and rank["worst"])]
        lines.append(f"| {' | '.join(values)} |")
    lines += ["", "## Shape of the model's allocations against the recording's", ""]
    lines += ["KS distances, percentage points, normalised root mean square error; the most allowed in the head.", ""]
    bound = lambda most: "" if most is None else f" (≤ {most:g})"
    lines += [f"| scenario | {' | '.join(name + bound(most) for name, most in SHAPE.items())} |", "|---" * (len(SHAPE) + 1) + "|"]
    for row in summary["scenarios"]:
        values = [row["scenario"]]
        for name, most in SHAPE.items():
            value = row.get("shape", {}).get(name)
            judged = f" {verdict(abs(value) <= most)}" if value is not None and most is not None else ""
            values.append("–" if value is None else f"{value:.2f}{judged}")
        lines.append(f"| {' | '.join(values)} |")
    return "\n".join(lines) + "\n"


def write(directory, entries):
    summary = summarize(entries)
    (directory / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    text = markdown(summary)
    (directory / "table.md").write_text(text, encoding="utf-8")
    print(text)
