"""The shape of a model's allocations beside the recording's: distances that `fragbench trace stat --against` computes.

The model's are recorded as any program's are: the worker under the recorder, told to go on at every barrier.
"""

import json
import subprocess

from synthetic import FragbenchError, output, workloads

SCHEMA = 1  # of fragbench-model
BARRIERS = 200  # more than any workload has


class NotYet(Exception):
    """What this fragbench does not have."""


def spec(workload):
    """A run of the workload at its defaults, without an epilogue."""
    work = {"kind": "named", "name": workload, "parameters": {}}
    common = {"schema": SCHEMA, "threads": None, "seed": 1, "scale": 1.0, "touch": "page", "thp": False}
    return common | {"workload": work, "latency_every": 0, "idle_ms": 0, "epilogue": False}


def record_model(fragbench, workload, trace):
    """Writes a trace of the worker's own allocations."""
    lines = [spec(workload)] + [{"command": "continue"}] * BARRIERS
    worker = fragbench.parent / "fragbench-worker"
    command = [str(fragbench), "record", "-o", str(trace), "--", str(worker)]
    said = subprocess.run(command, input="".join(json.dumps(line) + "\n" for line in lines), capture_output=True, text=True)
    if said.returncode or '"message":"done"' not in said.stdout:
        raise FragbenchError(f"recording {workload}: {said.stderr.strip()[-1000:]} {said.stdout[-300:]}")


def distances(campaign, scenario):
    """The distances of model and recording over the load."""
    if scenario.model not in workloads(campaign.fragbench):
        raise NotYet(f"no workload {scenario.model}")
    recording = campaign.trace(scenario.name)
    marks = json.loads(recording.with_suffix(".json").read_text())["marks"]
    at = {mark["name"]: mark["at_s"] for mark in marks}
    trace = recording.with_name(f"{scenario.name}.model.fbt")
    record_model(campaign.fragbench, scenario.model, trace)
    window = ["--against-from", f"{at['load_begin']}s", "--against-to", f"{at['load_end']}s"]
    compared = output(campaign.fragbench, "trace", "stat", trace, "--against", recording, *window, "--format", "json")
    return {"distances": json.loads(compared)["distances"]}
