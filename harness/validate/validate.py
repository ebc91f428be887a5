#!/usr/bin/env python3
"""Checks replays and models against a real MySQL or MariaDB server under several allocators; see README.md beside this file.

Each run is a line of RESULT/figures.jsonl the moment it ends; the same command again does what is missing. Refuses to
start without the programs it needs, and to count a run whose allocator is not the one asked for.
"""

import argparse
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import allocators
import real
import record
import shape
import synthetic
import table
from scenarios import SCENARIOS, model_variables
from server import Installation, ServerError, require
from servers import NoServer

HERE = pathlib.Path(__file__).resolve().parent
PARTS = ["record", "server", "replay", "model", "shape", "table"]
# Options of server.py that a flavor's model has otherwise by default.
MODELLED = {"mariadb": {}, "mysql": {"log_bin": "OFF", "performance_schema": "OFF"}}
VALIDATED = [name for name, scenario in SCENARIOS.items() if scenario.model]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])

    def choice(option, known, default, what):
        def parse(text):
            names = text.split(",")
            for name in names:
                if name not in known:
                    raise argparse.ArgumentTypeError(f"no {what} named {name}; there are {', '.join(known)}")
            return names

        parser.add_argument(option, type=parse, default=default, metavar="NAME[,NAME...]", help=f"[default: {','.join(default)}]")

    choice("--scenarios", list(SCENARIOS), VALIDATED, "scenario")
    names = list(allocators.known("."))
    choice("--allocators", names, [name for name in names if name != "linked"], "allocator")
    parser.add_argument("--server", default="mariadb-10.11", metavar="NAME", help="mariadb-10.11 (the machine's), mariadb-11.8, mysql-9.7 [default: mariadb-10.11]")
    parser.add_argument("--servers", type=pathlib.Path, default=HERE / "../../target/servers", metavar="DIR", help="directory of fetch_servers.sh")
    choice("--parts", PARTS, PARTS, "part")
    parser.add_argument("--reps", type=int, default=2, metavar="N", help="runs of each, in turns [default: 2]")
    parser.add_argument("-o", "--output", type=pathlib.Path, default=pathlib.Path("validation"), metavar="DIR", help="result directory")
    parser.add_argument("--recordings", type=pathlib.Path, metavar="DIR", help="where the recordings are or go [default: RESULT/recordings]")
    parser.add_argument("--again", action="store_true", help="record anew what has been recorded")
    parser.add_argument("--record-idle", type=float, default=0, metavar="S", help="seconds to go on recording after a load's end [default: 0]")
    parser.add_argument("--fragbench", type=pathlib.Path, default=HERE / "../../target/release/fragbench", metavar="PROGRAM")
    parser.add_argument("--tcmalloc", type=pathlib.Path, default=allocators.TCMALLOC, metavar="LIBRARY")
    return parser.parse_args()


class Campaign:
    """What is to be done and what has been done."""

    def __init__(self, options, scratch):
        self.options, self.scratch = options, scratch
        self.fragbench = options.fragbench.resolve()
        self.recordings = (options.recordings or options.output / "recordings").resolve()
        self.installation = Installation.named(options.server, options.servers)
        known = allocators.known(self.fragbench, options.tcmalloc, self.installation)
        self.allocators = [known[name] for name in options.allocators]
        self.file = options.output / "figures.jsonl"
        self.done = table.read_figures(self.file)
        self.failures = 0

    def trace(self, scenario):
        return self.recordings / f"{scenario}.fbt"

    def model_variables(self, scenario):
        """What the model of a load is to be told, of this server."""
        return model_variables(SCENARIOS[scenario]) | MODELLED[self.installation.flavor] | {"flavor": self.installation.name}

    def run(self):
        parts = self.options.parts
        if "record" in parts:
            self.recordings.mkdir(parents=True, exist_ok=True)
            for scenario in self.options.scenarios:
                if self.options.again or not self.trace(scenario).with_suffix(".json").exists():
                    print(f"record {scenario}", flush=True)
                    idle_s = self.options.record_idle
                    record.record(scenario, self.trace(scenario), self.fragbench, self.scratch, idle_s, self.installation)
        self.measure([part for part in ["server", "replay", "model"] if part in parts])
        if "shape" in parts:
            for scenario in self.options.scenarios:
                self.once("shape", scenario, None, 0, lambda: shape.distances(self, SCENARIOS[scenario]))
        if "table" in parts and self.done:
            table.write(self.options.output, list(self.done.values()))

    def measure(self, parts):
        """Repetition by repetition, so that drift of the machine hits all alike."""
        have = synthetic.workloads(self.fragbench) if "model" in parts else set()
        for name in self.options.scenarios if "model" in parts else []:
            if SCENARIOS[name].model not in have:
                print(f"model {name}: this fragbench has no workload {SCENARIOS[name].model}", flush=True)
        shim = self.build_shim() if "server" in parts else None
        for repetition in range(self.options.reps):
            for name in self.options.scenarios:
                model = SCENARIOS[name].model
                for allocator in self.allocators:
                    calls = {
                        "server": lambda: real.measure(name, allocator, shim, self.scratch, installation=self.installation),
                        "replay": lambda: synthetic.replay(self.fragbench, self.scratch, self.trace(name), allocator),
                        "model": lambda: synthetic.model(
                            self.fragbench, self.scratch, model, self.model_variables(name), allocator
                        ),
                    }
                    for part in parts:
                        if part != "model" or model in have:
                            self.once(part, name, allocator.name, repetition, calls[part])

    def once(self, part, scenario, allocator, repetition, call):
        """Does a run unless it is in the figures, and appends what came of it."""
        key = (part, scenario, allocator, repetition)
        if key in self.done and "error" not in self.done[key]:
            return
        entry = {"part": part, "scenario": scenario, "allocator": allocator, "repetition": repetition}
        begun = time.monotonic()
        try:
            entry |= call()
        except (ServerError, NoServer, synthetic.FragbenchError, shape.NotYet) as error:
            entry["error"] = str(error)
            self.failures += not isinstance(error, shape.NotYet)
        entry["took_s"] = round(time.monotonic() - begun, 2)
        self.done[key] = entry
        with open(self.file, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        print(table.one_line(entry), flush=True)

    def build_shim(self):
        shim = pathlib.Path(self.scratch) / "server_shim.so"
        command = ["cc", "-O2", "-Wall", "-shared", "-fPIC", "-o", shim, HERE / "server_shim.c"]
        subprocess.run(command, check=True)
        return shim


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("validate.py: told to stop"))  # through every `finally`
    options = arguments()
    needed = ["mariadbd", "mariadb", "mariadb-install-db", "mariadb-dump", "sysbench", "cc"]
    try:
        if set(options.parts) - {"table"}:
            require(options.fragbench, *(needed if {"record", "server"} & set(options.parts) else []))
        if set(options.parts) - {"record"}:
            options.output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fragbench-validate-") as scratch:
            campaign = Campaign(options, scratch)
            campaign.run()
    except (ServerError, NoServer, synthetic.FragbenchError) as error:
        sys.exit(f"validate.py: {error}")
    sys.exit(1 if campaign.failures else 0)


if __name__ == "__main__":
    main()
