"""One load on a real server under one allocator: its heap at the load's peak, end, after an idle time, after a purge."""

import os
import pathlib
import signal
import time

import heap
from record import SETTLE_S, Marks, template
from scenarios import SCENARIOS
from server import Server, ServerError, wait_until

PURGE = signal.SIGRTMIN + 5  # server_shim.c


def check_preloaded(pid, libraries):
    """Raises when a library is not there, or not mapped in the process."""
    for library in libraries:
        if not pathlib.Path(library).exists():
            raise ServerError(f"{library} not found: cargo build --release")
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:
        mapped = maps.read()
    for library in libraries:
        if str(pathlib.Path(library).resolve()) not in mapped:
            raise ServerError(f"{library} is not mapped in the server: the figures would be another allocator's")


def cpu_s(pid):
    """Processor time the process has used, seconds (proc(5): utime and stime of stat)."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(name, allocator, shim, scratch, check=lambda pid: None, installation=None):
    """Bytes at peak, end, idle, purged, what was subtracted from RssAnon to get them, and the processor time of load and idle
    time. `check` sees the server's process
    before the load."""
    scenario = SCENARIOS[name]
    directory = pathlib.Path(scratch) / f"real-{name}"
    server = Server(directory, scenario.variables, template(scenario, scratch, installation), installation)
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "LD_PRELOAD": allocator.preload(shim, server.installation)}
    try:
        server.start(environment=environment | allocator.environment)
        check_preloaded(server.pid, list(filter(None, [shim, allocator.library])))
        pid = server.pid
        check(pid)
        time.sleep(0.5)
        used = cpu_s(pid)
        sampler = heap.Sampler(pid)
        marks = Marks(time.monotonic_ns())
        scenario.load(server, marks)
        marks("load_end")
        time.sleep(SETTLE_S)
        other = heap.not_heap(pid, allocator.library)
        points = {"end": heap.rss_anon(pid) - other}
        peak = max(sample for _, sample in sampler.stop())
        points["peak"] = max(peak - other, points["end"])
        time.sleep(allocator.idle_s)
        other = heap.not_heap(pid, allocator.library)
        points["idle"] = heap.rss_anon(pid) - other
        used = cpu_s(pid) - used
        points["purged"] = purge(server, allocator) - other
    finally:
        server.discard()
    return {"points": points, "not_heap": other, "load_s": marks.last("load_end"), "cpu_s": used}


def purge(server, allocator):
    """RssAnon after the idle server gave back what its allocator can, twice as fragbench asks it of a worker."""
    log = server.directory / "error.log"
    for times in (1, 2):
        os.kill(server.pid, PURGE)
        said = lambda: log.read_text(errors="replace").count(f"purged by {allocator.proof}\n") >= times
        wait_until(said, f"purge by {allocator.proof}", 10)
    return heap.rss_anon(server.pid)
