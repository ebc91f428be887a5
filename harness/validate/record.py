"""Records a load on a real server: the trace, the moments of the load on the trace's clock, and the memory of the
server's glibc heap meanwhile.

The trace begins with the server and ends SETTLE_S after the load's last session has gone; the server's shutdown, which
frees the heap, is not in it.
"""

import json
import pathlib
import struct
import subprocess
import sys
import time

from scenarios import SCENARIOS
from server import Server, ServerError

# The end of a load is looked at this long after its last session has gone: threads end after their connections.
SETTLE_S = 1.0
# CLOCK_MONOTONIC in ns at the recording's start: harness/trace/src/spool/format.rs.
SPOOL_START_AT = 40


class Marks:
    """Moments of a load as seconds since `origin_ns` of the monotonic clock; a name may come several times."""

    def __init__(self, origin_ns):
        self.origin_ns = origin_ns
        self.list = []

    def __call__(self, name):
        self.list.append({"name": name, "at_s": round((time.monotonic_ns() - self.origin_ns) / 1e9, 3)})

    def first(self, name):
        return next((mark["at_s"] for mark in self.list if mark["name"] == name), None)

    def last(self, name):
        return next((mark["at_s"] for mark in reversed(self.list) if mark["name"] == name), None)


def template(scenario, scratch, installation=None):
    """A data directory with the scenario's tables, made once by a server that is neither recorded nor measured."""
    made = pathlib.Path(scratch) / f"template-{scenario.name}"
    if not made.exists():
        server = Server(pathlib.Path(scratch) / f"prepare-{scenario.name}", scenario.variables, None, installation)
        try:
            server.start()
            scenario.prepare(server)
            server.stop()
            (server.directory / "data").rename(made)
        finally:
            server.discard()
    return made


def recording_start_ns(trace):
    """When the recording of a program that now runs began, CLOCK_MONOTONIC, from the header of its spool."""
    (spool,) = trace.parent.glob(f"{trace.name}.*.spools/p.*.spool")
    with open(spool, "rb") as file:
        file.seek(SPOOL_START_AT)
        return struct.unpack("<Q", file.read(8))[0]


def record(name, trace, fragbench, scratch, idle_s=0.0, installation=None):
    """Makes `trace`, NAME.fbt, with NAME.json (the marks) and NAME.memory.csv (the heap, 20 times a second) beside it."""
    scenario = SCENARIOS[name]
    trace = pathlib.Path(trace).resolve()
    tables = template(scenario, scratch, installation)
    server = Server(pathlib.Path(scratch) / f"record-{name}", scenario.variables, tables, installation)
    sampler = None
    try:
        server.start([str(fragbench), "record", "-o", str(trace), "--end-at-signal", "--"], under_libc=True)
        heap_rss = pathlib.Path(__file__).with_name("heap_rss.py")
        memory = trace.with_suffix(".memory.csv")
        sampler = subprocess.Popen([sys.executable, heap_rss, str(server.pid), memory, "20"])
        marks = Marks(recording_start_ns(trace))
        time.sleep(0.5)
        marks("load_begin")
        scenario.load(server, marks)
        marks("load_end")
        time.sleep(SETTLE_S + idle_s)
        marks("end")
        sampler.terminate()
        sampler.wait()
        server.stop()
        if not trace.exists():
            raise ServerError(f"{trace} was not written:{server.last_words()}")
    finally:
        if sampler and sampler.poll() is None:
            sampler.kill()
            sampler.wait()
        server.discard()
    facts = {"scenario": name, "settle_s": SETTLE_S, "marks": marks.list}
    trace.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")
