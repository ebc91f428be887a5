#!/usr/bin/env python3
"""Judges the advice of fragbench on real servers: for each load what `replay` and `tune` advise on its recording, and what a real
MariaDB under the same load then holds and uses, with exactly the emitted lines and with every setting that was tried.

    harness/validate/judged.py -o OUT                           # everything: hours
    harness/validate/judged.py --loads shipped/connection-storm --tune 2m --reps 1 -o OUT

A load is one of validate.py's, recorded anew (`oltp-read-write`), or a shipped recording of one (`shipped/oltp-read-write`).
Every step is kept in OUT the moment it is done (`figures.jsonl`, `advice/`, `recordings/`): the same command again does what is
missing. An advice holds when the server keeps within 10 % of the least idle memory of all settings that cost it at most 10 % more
processor time, and costs no more itself; "leave it" holds where none of those saves 10 %. Exit status 1 when one does not.

Refuses to count a run whose variables or library are not in the server's process.
"""

import argparse
import json
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

import allocators
import real
import record
import tuned
from scenarios import SCENARIOS
from server import ServerError, require

HERE = pathlib.Path(__file__).resolve().parent
TRACES = HERE / "../../workloads/replay/traces"
LOADS = [name for name, scenario in SCENARIOS.items() if scenario.model]
SHIPPED = ["shipped/connection-storm", "shipped/oltp-read-write", "shipped/blob-churn"]
# As the replay's quiet: longer than jemalloc's decay.
IDLE_S = 12
NEAR = 1.1
DEFAULT = "glibc"
IDLE = "heap_rss_idle_bytes"


def scenario_of(load):
    return load.removeprefix("shipped/")


def advice_directory(output, load, tool):
    return output / "advice" / f"{load.replace('/', '-')}-{tool}"


def label(name, settings):
    return " ".join([name, *(f"{key}={value}" for key, value in sorted(settings.items()))])


class Kept:
    """Figures, a line each, by their key."""

    def __init__(self, path):
        self.path, self.entries = path, {}
        if path.exists():
            for line in path.read_text().splitlines():
                entry = json.loads(line)
                self.entries[tuple(entry["key"])] = entry["value"]

    def once(self, key, call):
        """What is known under the key, found out now where it is not."""
        if key not in self.entries:
            value = call()
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "value": value}) + "\n")
            self.entries[key] = value
        return self.entries[key]


def advise(command, directory, wanted):
    """Runs a verb of fragbench that writes `directory`, unless its file `wanted` is there."""
    if not (directory / wanted).exists():
        shutil.rmtree(directory, ignore_errors=True)
        directory.parent.mkdir(parents=True, exist_ok=True)
        print(" ".join(map(str, command)), flush=True)
        done = subprocess.run([*map(str, command), "-o", str(directory)], stdout=subprocess.DEVNULL, check=False)
        if done.returncode not in (0, 1) or not (directory / wanted).exists():
            raise ServerError(f"{command[1]} gave no advice (exit status {done.returncode})")


def advice_of_replay(directory):
    """Advice, predicted idle memory relative to the baseline, and every cell tried, by label."""
    summary = json.loads((directory / "summary.json").read_text())
    verdict = summary["verdict"]
    plan = json.loads((directory / "manifest.json").read_text())["plan"]["cells"]
    tried = [cell["allocator"] for cell in plan if not cell["aa"] and cell["allocator"]["name"] != "null"]
    chosen, ratio = None, None
    if verdict["kind"] in ("switch", "tune"):
        chosen = label(verdict["allocator"], verdict["settings"])
        for cell in summary.get("comparisons", []):
            if label(cell["allocator"], cell["settings"]) == chosen:
                ratio = cell["effects"].get(IDLE, {}).get("ratio", {}).get("median")
    return verdict["kind"], chosen, ratio, tried


def advice_of_tune(directory):
    tuning = json.loads((directory / "tuning.json").read_text())
    plan = json.loads((directory / "manifest.json").read_text())["plan"]["cells"]
    finalists = {label(point["allocator"], point["settings"]) for point in tuning["finalists"]}
    tried = [c["allocator"] for c in plan if label(c["allocator"]["name"], c["allocator"]["settings"]) in finalists]
    recommendation = tuning["recommendation"]
    if recommendation is None:
        return tuning["verdict"]["kind"], None, None, tried
    chosen = label(recommendation["allocator"], recommendation["settings"])
    return tuning["verdict"]["kind"], chosen, recommendation["memory_ratio"]["median"], tried


def environment(variables, family):
    """A server's environment as the other parts of the validation describe one."""
    library = variables.get("LD_PRELOAD")
    if library is not None and not pathlib.Path(library).is_file():
        raise ServerError(f"{library} is not there: cargo build --release")
    own = {name: value for name, value in variables.items() if name != "LD_PRELOAD"}
    return allocators.Allocator(
        "applied", library and pathlib.Path(library), own, [], IDLE_S, "fast", tuned.PROOF[family]
    )


def family(name):
    return re.match(r"[a-z]+", name)[0]


def variables_of(allocator):
    """The variables that put a cell's allocator in place."""
    preload = {"LD_PRELOAD": allocator["library"]} if allocator["library"] else {}
    return allocator["environment"] | preload


def judge(advice, default, others):
    """Whether an advice holds. `default`, `others` and `advice` (`None`: leave it) are (idle bytes, processor seconds)."""
    affordable = [idle for idle, cpu in [default, *others] if cpu <= NEAR * default[1]]
    least = min(affordable)
    if advice is None:
        return least >= 0.9 * default[0]
    return advice[0] <= NEAR * least and advice[1] <= NEAR * default[1]


class Judge:
    def __init__(self, options, scratch):
        self.options, self.scratch = options, scratch
        self.fragbench = options.fragbench.resolve()
        self.kept = Kept(options.output / "figures.jsonl")
        self.shim = pathlib.Path(scratch) / "server_shim.so"
        subprocess.run(["cc", "-O2", "-Wall", "-shared", "-fPIC", "-o", self.shim, HERE / "server_shim.c"], check=True)

    def trace(self, load):
        if load.startswith("shipped/"):
            return (TRACES / f"{scenario_of(load)}.fbt").resolve()
        path = (self.options.output / "recordings" / f"{load}.fbt").resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.with_suffix(".json").exists():
            print(f"record {load}", flush=True)
            record.record(load, path, self.fragbench, self.scratch)
        return path

    def server(self, load, name, variables, kind):
        """Medians of idle bytes and processor seconds of the real server in this environment."""
        allocator = environment(variables, kind)
        runs = []
        for repetition in range(self.options.reps):
            key = ("server", scenario_of(load), json.dumps(variables, sort_keys=True), repetition)
            check = lambda pid: tuned.check_environment(pid, allocator.environment)
            run = self.kept.once(key, lambda: real.measure(scenario_of(load), allocator, self.shim, self.scratch, check))
            runs.append(run)
            idle, cpu = run["points"]["idle"] / 2**20, run["cpu_s"]
            print(f"{load} under {name}, {repetition + 1}: idle {idle:.1f} MiB, {cpu:.2f} s of processor time", flush=True)
        return tuple(statistics.median(of(run) for run in runs) for of in (lambda r: r["points"]["idle"], lambda r: r["cpu_s"]))

    def rows(self, load):
        """A row for each tool."""
        trace, common = self.trace(load), ["--emit", "systemd", "--library-dir", self.fragbench.parent]
        replayed, searched = (advice_directory(self.options.output, load, tool) for tool in ("replay", "tune"))
        advise([self.fragbench, "replay", trace, *common], replayed, "summary.json")
        advise([self.fragbench, "tune", "--trace", trace, "--max-time", self.options.tune, *common], searched, "tuning.json")
        tools = {"replay": (replayed, advice_of_replay(replayed)), "tune": (searched, advice_of_tune(searched))}
        tried = {}
        for _, (*_, cells) in tools.values():
            for cell in cells:
                name = label(cell["name"], cell["settings"])
                tried.setdefault(json.dumps(variables_of(cell), sort_keys=True), (name, variables_of(cell), cell["name"]))
        default = self.server(load, DEFAULT, {}, "glibc")
        held = {name: self.server(load, name, variables, family(kind)) for name, variables, kind in tried.values()}
        held[DEFAULT] = default
        affordable = {name: figures for name, figures in held.items() if figures[1] <= NEAR * default[1]}
        best = min(affordable, key=lambda name: affordable[name][0])
        for tool, (directory, (kind, chosen, predicted, _)) in tools.items():
            own = None
            if chosen is not None and chosen != DEFAULT:
                variables = tuned.service_environment((directory / "emitted.txt").read_text())
                own = self.server(load, chosen, variables, family(chosen))
            yield {
                "load": load,
                "tool": tool,
                "kind": kind,
                "advice": chosen,
                "predicted_ratio": predicted,
                "default": default,
                "advised": own,
                "best": [best, *affordable[best]],
                "holds": kind != "not_enough_data" and judge(own, default, list(held.values())),
            }


def line(row):
    default_idle, default_cpu = row["default"]
    change = lambda value, base: f"{100 * (value / base - 1):+.0f} %"
    name, idle, cpu = row["best"]
    predicted = "–" if row["predicted_ratio"] is None else change(row["predicted_ratio"], 1)
    server, cost = "–", "–"
    if row["advised"]:
        server, cost = change(row["advised"][0], default_idle), change(row["advised"][1], default_cpu)
    advice = row["advice"] or {"leave": "leave it"}.get(row["kind"], "no recommendation")
    best = f"{name}: {change(idle, default_idle)}, {change(cpu, default_cpu)}"
    idle = f"{default_idle / 2**20:.0f} MiB, {default_cpu:.1f} s"
    return [row["load"], row["tool"], idle, advice, predicted, server, cost, best, "yes" if row["holds"] else "no"]


def table(rows, reps, tune):
    heads = ["load", "by", "server as it comes: idle, CPU", "advice", "predicted idle", "server's idle", "its CPU", "best of all tried (idle, CPU)", "holds"]
    lines = [heads, ["---"] * len(heads), *map(line, rows)]
    text = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    how = f"Medians of {reps} runs of a real MariaDB each; `replay` as it comes, `tune --max-time {tune}`; idle {IDLE_S} s after the load."
    return f"# What fragbench advises and what the server then did\n\n{how}\n\n{text}\n"


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("judged.py: told to stop; the same command goes on"))
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--loads", default=",".join(LOADS + SHIPPED), metavar="NAME[,NAME...]", help="[default: all]")
    parser.add_argument("--tune", default="10m", metavar="TIME", help="--max-time of tune [default: 10m]")
    parser.add_argument("--reps", type=int, default=3, metavar="N", help="runs of the server in each environment [default: 3]")
    parser.add_argument("--fragbench", type=pathlib.Path, default=HERE / "../../target/release/fragbench", metavar="PROGRAM")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, metavar="DIR")
    options = parser.parse_args()
    loads = options.loads.split(",")
    unknown = [load for load in loads if load not in LOADS + SHIPPED]
    if unknown:
        parser.error(f"no load named {unknown[0]}; there are {', '.join(LOADS + SHIPPED)}")
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        require("mariadbd", "mariadb", "mariadb-install-db", "sysbench", "cc")
        with tempfile.TemporaryDirectory(prefix="fragbench-judged-") as scratch:
            judged = Judge(options, scratch)
            rows = []
            for load in loads:
                rows.extend(judged.rows(load))
                text = table(rows, options.reps, options.tune)
                (options.output / "judged.md").write_text(text)
                (options.output / "judged.json").write_text(json.dumps(rows, indent=1) + "\n")
    except (ServerError, OSError) as error:
        sys.exit(f"judged.py: {error}")
    print(text)
    sys.exit(0 if all(row["holds"] for row in rows) else 1)


if __name__ == "__main__":
    main()
