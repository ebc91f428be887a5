"""Attaches `fragbench record` to a running process again and again at random moments, while a client works with it, and says
what the client and the process thought of it.

    python3 harness/validate/attach.py PID --times 50 -- sysbench oltp_read_write --mysql-socket=… --time=0 run

Exit status 1 when the process ended, the client ended or wrote "error" or "fatal", or more than --unresolved of the frees
were of unknown blocks.
"""

import argparse
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pid", type=int)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each recording")
    parser.add_argument("--unresolved", type=float, default=0.001, help="share of events allowed")
    parser.add_argument("--fragbench", default=ROOT / "target/release/fragbench")
    # Behind "--": a command that works until it is ended.
    own, client_command = sys.argv[1:], []
    if "--" in own:
        own, client_command = own[:own.index("--")], own[own.index("--") + 1:]
    options = parser.parse_args(own)
    failures, stops, shares, busy = [], [], [], 0
    with tempfile.TemporaryDirectory() as directory:
        trace, said = pathlib.Path(directory, "t.fbt"), pathlib.Path(directory, "client")
        client = None
        if client_command:
            client = subprocess.Popen(client_command, stdout=said.open("w"), stderr=subprocess.STDOUT)
        for n in range(options.times):
            time.sleep(random.uniform(0, 1))
            command = [options.fragbench, "record", "--attach", str(options.pid), "-o", trace]
            command += ["--duration", f"{int(options.seconds * 1000)}ms"]
            done = subprocess.run(command, capture_output=True, text=True)
            if not pathlib.Path(f"/proc/{options.pid}/exe").exists():
                failures.append(f"{n}: the process has ended")
                break
            if client and client.poll() is not None:
                failures.append(f"{n}: the client has ended with {client.returncode}")
                break
            if done.returncode:
                # Given up cleanly is no failure; it is counted.
                busy += 1
                print(f"{n}: {done.stderr.strip()}", file=sys.stderr)
                continue
            stop = re.search(r"stood still for ([\d.]+) (\S+) at most", done.stderr)
            if stop:
                stops.append(float(stop[1]) * {"ns": 1e-6, "µs": 1e-3, "ms": 1, "s": 1e3}[stop[2]])
            command = [options.fragbench, "trace", "info", trace, "--format", "json"]
            info = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)
            totals = info["totals"]
            if info["recorded_on"].get("start") == "complete":
                shares.append((totals["unseen_frees"] + totals["unresolved"]) / max(totals["events"], 1))
        if client:
            client.terminate()
            client.wait()
            failures += [line for line in said.read_text().splitlines() if re.search(r"error|fatal", line, re.I)
                         and not re.search(r"errors?:\s+0\b", line)]
    if shares and max(shares) > options.unresolved:
        failures.append(f"{max(shares):.2%} of the events are of unknown blocks")
    print(f"{options.times - busy} recordings, {busy} given up; longest stop {max(stops, default=0):.0f} ms; "
          f"unknown blocks {max(shares, default=0):.3%} of the events at most; {len(failures)} failures")
    print("\n".join(failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
