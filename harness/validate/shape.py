"""The shape of a model's allocations beside the recording's: distances that `fragbench trace stat --against` computes.

The model's are recorded as any program's are: the worker under the recorder, told to go on at every barrier.
"""

import json
import subprocess

from record import recording_start_ns
from synthetic import FragbenchError, output, workloads

SCHEMA = 1  # of fragbench-model


class NotYet(Exception):
    """What this fragbench does not have."""


def spec(workload, variables):
    """A run of the workload with the server's variables, without an epilogue."""
    work = {"kind": "named", "name": workload, "parameters": variables}
    driver = {"threads": None, "scale": 1.0, "touch": "page", "thp": False, "latency_every": 0, "epilogue": False}
    return {"schema": SCHEMA, "workload": work, "seed": 1, "idle_ms": 0, "driver": driver}


def record_model(fragbench, workload, variables, trace):
    """Writes a trace of the worker's own allocations; returns when its load begins and ends, seconds on the trace's clock.

    The load is what follows the phase "warm-up", in which the model of a server starts."""
    command = [str(fragbench), "record", "-o", str(trace), "--", str(fragbench.parent / "fragbench-worker")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    load, start_ns, done, line = [], None, False, ""
    with subprocess.Popen(command, text=True, bufsize=1, **pipes) as run:
        run.stdin.write(json.dumps(spec(workload, variables)) + "\n")
        for line in run.stdout:
            message = json.loads(line)
            if message["message"] == "hello":
                start_ns = recording_start_ns(trace)
            if message["message"] in ("phase", "barrier") and message["name"] != "warm-up":
                load.append((message["at_ns"] - start_ns) / 1e9)
            if message["message"] in ("hello", "barrier"):
                run.stdin.write('{"command":"continue"}\n')
            done = done or message["message"] == "done"
        said = run.stderr.read()
    if run.returncode or not done or not load:
        raise FragbenchError(f"recording {workload}: {said.strip()[-1000:]} {line.strip()}")
    return load[0], load[-1]


def distances(campaign, scenario):
    """The distances of model and recording over the load."""
    if scenario.model not in workloads(campaign.fragbench):
        raise NotYet(f"no workload {scenario.model}")
    recording = campaign.trace(scenario.name)
    at = {mark["name"]: mark["at_s"] for mark in json.loads(recording.with_suffix(".json").read_text())["marks"]}
    trace = campaign.options.output.resolve() / f"{scenario.name}.model.fbt"
    begin, end = record_model(campaign.fragbench, scenario.model, campaign.model_variables(scenario.name), trace)
    files = [trace, "--from", f"{begin * 1e6:.0f}us", "--to", f"{end * 1e6:.0f}us", "--against", recording]
    window = ["--against-from", f"{at['load_begin']}s", "--against-to", f"{at['load_end']}s"]
    compared = output(campaign.fragbench, "trace", "stat", *files, *window, "--format", "json")
    trace.unlink()
    return {"distances": json.loads(compared)["distances"]}
