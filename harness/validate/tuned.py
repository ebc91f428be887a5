#!/usr/bin/env python3
"""Applies what `fragbench tune --emit systemd` printed to a real MariaDB server and sets what it saves there beside what was
predicted.

    fragbench tune replay/connection-storm --emit systemd --library-dir target/release -o RESULT
    harness/validate/tuned.py RESULT -o OUT

The server gets exactly the variables of the lines' [Service] section, and is asked in /proc whether it has them. It is put
under the load the trace was recorded of, with and without, in turns. Heap memory is told apart from the server's own
mappings by server_shim.c, preloaded in both; see README.md beside this file.

Refuses a result without a recommendation, or whose lines name a library that is not there. Exit status 1 when less than 70 %
of the predicted saving came.
"""

import argparse
import json
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace

import allocators
import real
from scenarios import SCENARIOS
from server import ServerError, require

HERE = pathlib.Path(__file__).resolve().parent
LEAST_SHARE = 0.7
POINT = {"heap_rss_peak_bytes": "peak", "heap_rss_idle_bytes": "idle"}
# What the purge in the server answers, by family (server_shim.c).
PROOF = {"glibc": "malloc_trim", "jemalloc": "mallctl", "mimalloc": "mi_collect"}


def service_environment(text):
    """The variables that systemd would set by these lines: Environment= of the [Service] section, quotes and doubled percent
    signs undone."""
    variables, section = {}, None
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line.startswith("Environment="):
            word = re.fullmatch(r'Environment="(.*)"', line)
            if word is None:
                raise ServerError(f"not understood: {line}")
            name, value = word[1].split("=", 1)
            variables[name] = re.sub(r"\\(.)", r"\1", value).replace("%%", "%")
    return variables


def check_environment(pid, variables):
    """Raises unless the process has these variables."""
    has = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    for name, value in variables.items():
        if f"{name}={value}".encode() not in has:
            raise ServerError(f"{name}={value} is not in the environment of the server")


def applied(recommendation, variables):
    """The recommended environment as the validation's other parts describe one."""
    library = variables.get("LD_PRELOAD")
    if library is not None and not pathlib.Path(library).is_file():
        raise ServerError(f"{library} is not there: install it as the lines say, or tune with --library-dir")
    environment = {name: value for name, value in variables.items() if name != "LD_PRELOAD"}
    proof = PROOF.get(recommendation["allocator"])
    if proof is None:
        raise ServerError(f"{recommendation['allocator']}: how it is purged is not known here")
    return allocators.Allocator("applied", library and pathlib.Path(library), environment, [], 0, "fast", proof)


def measure(scenario, environments, reps, idle_s, scratch, shim):
    """Bytes at each point by environment, one a repetition, in turns."""
    points = {name: [] for name in environments}
    for repetition in range(reps):
        order = list(environments) if repetition % 2 == 0 else list(reversed(environments))
        for name in order:
            allocator = replace(environments[name], idle_s=idle_s)
            check = lambda pid: check_environment(pid, allocator.environment)
            run = real.measure(scenario, allocator, shim, scratch, check)
            points[name].append(run["points"])
            print(f"{name} {repetition + 1}: " + ", ".join(f"{k} {v / 2**20:.1f} MiB" for k, v in run["points"].items()), flush=True)
    return points


def judge(tuning, points):
    """Predicted and real saving as shares of the baseline's memory, and the part of the prediction that came."""
    point = POINT[tuning["memory"]]
    default, changed = (statistics.median(run[point] for run in points[name]) for name in ("default", "applied"))
    predicted = 1 - tuning["recommendation"]["memory_ratio"]["median"]
    saved = 1 - changed / default
    return {
        "point": point,
        "default_bytes": default,
        "applied_bytes": changed,
        "predicted_saving_ratio": predicted,
        "real_saving_ratio": saved,
        "share_of_prediction": saved / predicted,
        "holds": saved / predicted >= LEAST_SHARE,
    }


def report(tuning, lines, outcome, reps):
    """The outcome in Markdown."""
    table = [
        "| memory | default | with the lines | saved | predicted | share of the prediction |",
        "|---|---|---|---|---|---|",
        "| {point} | {default:.1f} MiB | {applied:.1f} MiB | {saved:.1%} | {predicted:.1%} | {share:.0%} |".format(
            point=outcome["point"],
            default=outcome["default_bytes"] / 2**20,
            applied=outcome["applied_bytes"] / 2**20,
            saved=outcome["real_saving_ratio"],
            predicted=outcome["predicted_saving_ratio"],
            share=outcome["share_of_prediction"],
        ),
    ]
    return "\n".join(
        [
            f"# What the lines of `fragbench tune {tuning['workload']}` save on a real MariaDB",
            "",
            f"Medians of {reps} runs each of the same load, in turns.",
            "",
            *table,
            "",
            "The lines:",
            "",
            "```ini",
            lines.strip(),
            "```",
            "",
        ]
    )


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("tuned.py: told to stop"))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("result", type=pathlib.Path, help="result directory of fragbench tune --emit systemd")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--reps", type=int, default=3, metavar="N", help="runs of each [default: 3]")
    parser.add_argument("--idle", type=float, default=2.5, metavar="S", help="seconds between load and look [default: 2.5, as tune's]")
    options = parser.parse_args()
    try:
        tuning = json.loads((options.result / "tuning.json").read_text())
        lines = (options.result / "emitted.txt").read_text()
        if tuning["recommendation"] is None:
            raise ServerError("nothing is recommended there")
        scenario = tuning["workload"].removeprefix("replay/")
        if scenario not in SCENARIOS:
            raise ServerError(f"{tuning['workload']}: there is no load of that name; there are {', '.join(SCENARIOS)}")
        variables = service_environment(lines)
        environments = {
            "default": allocators.Allocator("default", None, {}, [], 0, "fast", PROOF["glibc"]),
            "applied": applied(tuning["recommendation"], variables),
        }
        require("mariadbd", "mariadb", "mariadb-install-db", "sysbench", "cc")
        with tempfile.TemporaryDirectory(prefix="fragbench-tuned-") as scratch:
            shim = pathlib.Path(scratch) / "server_shim.so"
            subprocess.run(["cc", "-O2", "-Wall", "-shared", "-fPIC", "-o", shim, HERE / "server_shim.c"], check=True)
            points = measure(scenario, environments, options.reps, options.idle, scratch, shim)
    except (ServerError, OSError) as error:
        sys.exit(f"tuned.py: {error}")
    outcome = judge(tuning, points)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "tuned.json").write_text(json.dumps(outcome | {"environment": variables, "runs": points}, indent=1) + "\n")
    (options.output / "tuned.md").write_text(report(tuning, lines, outcome, options.reps))
    print(f"saved {outcome['real_saving_ratio']:.1%}, predicted {outcome['predicted_saving_ratio']:.1%}")
    sys.exit(0 if outcome["holds"] else 1)


if __name__ == "__main__":
    main()
