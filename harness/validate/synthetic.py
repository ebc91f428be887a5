"""What fragbench makes of a load: replays of its recording and runs of the model that stands for it."""

import json
import pathlib
import shutil
import subprocess

POINTS = {
    "peak": "heap_rss_peak_bytes",
    "end": "heap_rss_end_bytes",
    "idle": "heap_rss_idle_bytes",
    "purged": "heap_rss_after_purge_bytes",
}


class FragbenchError(Exception):
    """What fragbench said when it failed."""


def output(fragbench, *arguments):
    """Standard output of a fragbench command."""
    run = subprocess.run([str(fragbench), *map(str, arguments)], capture_output=True, text=True)
    if run.returncode:
        raise FragbenchError(f"fragbench {' '.join(map(str, arguments))}: {(run.stderr or run.stdout).strip()[-1500:]}")
    return run.stdout


def measured(fragbench, scratch, *arguments):
    """The four points and live bytes of one run."""
    result = pathlib.Path(scratch) / "fragbench-result"
    shutil.rmtree(result, ignore_errors=True)
    (cell,) = json.loads(output(fragbench, *arguments, "--reps", 1, "--format", "json", "-o", result))["cells"]
    if cell["failed"]:
        record = json.loads((result / "runs.jsonl").read_text().splitlines()[-1])
        raise FragbenchError(f"{cell['workload']} under {cell['allocator']}: {record['status']}")
    value = lambda metric: cell["metrics"].get(metric, {}).get("median")
    points = {point: value(metric) for point, metric in POINTS.items()}
    return {"points": points, "live_peak": value("live_peak_bytes"), "live_end": value("live_end_bytes")}


def replay(fragbench, scratch, trace, allocator):
    """One replay of a recording."""
    pace = ["--pace", allocator.pace, "--idle", f"{allocator.idle_s}s"]
    return measured(fragbench, scratch, "replay", trace, *allocator.choice, *pace)


def model(fragbench, scratch, workload, variables, allocator):
    """One run of a workload, with the server's variables."""
    given = [word for name, value in variables.items() for word in ("--set", f"{name}={value}")]
    return measured(fragbench, scratch, "run", workload, *given, *allocator.choice, "--idle", f"{allocator.idle_s}s")


def workloads(fragbench):
    """Names of the workloads that this fragbench has."""
    return {entry["name"] for entry in json.loads(output(fragbench, "list", "workloads", "--format", "json"))["workloads"]}
