#!/usr/bin/env python3
"""Gives fragbench damaged inputs, hostile names and sudden ends, and counts what should never be: a signal, a panic, a hang, much memory,
a damaged result or trace that is taken for whole, an escape that reaches the terminal, a process that is left behind.

    harness/validate/damaged.py                          # 300 traces, 200 option files, 90 profiles, 230 results, 140 kills, 40 names
    harness/validate/damaged.py --share 0.05 --seed 7    # a small sample

Every input is made from a sound one by a seeded change: cut, a byte turned, a stretch doubled, removed or zeroed, a number made absurd. A
fault is printed with the seed and the command and kept in --keep DIR. Exit status 1 when there is one.

Refuses to judge wording: the tests of the command do that.
"""

import argparse
import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TRACES = ROOT / "workloads/replay/traces"
OPTION_FILES = ROOT / "harness/cli/tests/option_files"
# One command has this long, and this much address space: what needs more takes a damaged number at its word.
LIMIT_S = 120
LIMIT_BYTES = 8 << 30
ABSURD = [b"9223372036854775807", b"4294967296", b"1000000000", b"-1", b"0", b"1e308", b"nan", b""]
# What a terminal would obey; colours are fragbench's own.
OBEYED = re.compile(rb"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]|\xe2\x80[\xaa-\xae]")


class Faults:
    """What was found, each kept with what brought it about."""

    def __init__(self, keep):
        self.keep, self.count, self.runs = keep, 0, 0

    def add(self, what, words, of=None):
        self.count += 1
        print(f"FAULT {what}: {' '.join(map(str, words))}", flush=True)
        if self.keep and of is not None and of.exists():
            self.keep.mkdir(parents=True, exist_ok=True)
            place = self.keep / f"{self.count}-{of.name}"
            (shutil.copytree if of.is_dir() else shutil.copy)(of, place)


def limit():
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))


def run(faults, fragbench, words, of=None, cwd=None):
    """Runs it to its end and counts what holds of every command."""
    faults.runs += 1
    command = [fragbench, *map(str, words)]
    try:
        ended = subprocess.run(command, capture_output=True, timeout=LIMIT_S, preexec_fn=limit, cwd=cwd, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        faults.add(f"no end within {LIMIT_S} s", words, of)
        return None
    said = ended.stdout + ended.stderr
    if ended.returncode not in (0, 1, 2):
        faults.add(f"ended with {ended.returncode}: {ended.stderr[-300:]!r}", words, of)
    elif b"panicked" in said or b"RUST_BACKTRACE" in said:
        faults.add("panicked", words, of)
    elif OBEYED.search(said):
        faults.add(f"a terminal would obey {OBEYED.search(said).group()!r}", words, of)
    elif ended.returncode and not ended.stderr.strip() and not ended.stdout.strip():
        faults.add("failed without a word", words, of)
    return ended


def damaged(data, chance):
    """One change of a sound input; never the input itself."""
    while True:
        at = chance.randrange(max(1, len(data)))
        length = min(chance.choice([1, 8, 64, 4096]), len(data) - at)
        end = at + length
        numbers = list(re.finditer(rb"\d+", data)) if len(data) < 1 << 20 else []
        kind = chance.choice(["cut", "turn", "double", "remove", "zero", "number"])
        if kind == "cut":
            changed = data[:at]
        elif kind == "turn":
            changed = data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :] if data else b"\0"
        elif kind == "double":
            changed = data[:end] + data[at:end] + data[end:]
        elif kind == "remove":
            changed = data[:at] + data[end:]
        elif kind == "zero":
            changed = data[:at] + bytes(length) + data[end:]
        elif numbers:
            number = chance.choice(numbers)
            changed = data[: number.start()] + chance.choice(ABSURD) + data[number.end() :]
        else:
            continue
        if changed != data:
            return changed


def traces(faults, fragbench, count, chance, scratch):
    """Damage inside a trace shows: info never calls it complete, and nothing replays it as if it were whole."""
    sound = min(TRACES.glob("*.fbt"), key=lambda path: path.stat().st_size)
    data = sound.read_bytes()
    file = scratch / "damaged.fbt"
    for _ in range(count):
        file.write_bytes(damaged(data, chance))
        info = run(faults, fragbench, ["trace", "info", "--format", "json", file], file)
        if info and info.returncode == 0 and json.loads(info.stdout)["complete"] is not True:
            faults.add("incomplete with status 0", ["trace", "info", file], file)
        stat = run(faults, fragbench, ["trace", "stat", "--format", "json", file], file)
        # A change of the header alone need not touch an event; where both are content, all events are there.
        if info and stat and info.returncode == stat.returncode == 0:
            if json.loads(info.stdout)["events"] != json.loads(stat.stdout)["events"]:
                faults.add("events that are not there", ["trace", "stat", file], file)
        run(faults, fragbench, ["replay", file, "--dry-run"], file)


def option_files(faults, fragbench, count, chance, scratch):
    sound = [path.read_bytes() for path in sorted(OPTION_FILES.glob("*.cnf"))]
    file = scratch / "damaged.cnf"
    for _ in range(count):
        file.write_bytes(damaged(chance.choice(sound), chance))
        flavor = chance.choice(["mariadb-10.11", "mariadb-11.8", "mysql-9.7"])
        run(faults, fragbench, ["run", "mysql/oltp-read-write", "--flavor", flavor, "--my-cnf", file, "--dry-run"], file)


def profiles(faults, fragbench, count, chance, scratch):
    sound = scratch / "sound.toml"
    trace = min(TRACES.glob("*.fbt"), key=lambda path: path.stat().st_size)
    subprocess.run([fragbench, "trace", "profile", "--no-check", trace, "-o", sound], check=True, capture_output=True)
    data, file = sound.read_bytes(), scratch / "damaged.toml"
    for _ in range(count):
        file.write_bytes(damaged(data, chance))
        run(faults, fragbench, ["run", f"profile:{file}", "--dry-run"], file)


def results(faults, fragbench, count, chance, scratch):
    """A result that is damaged is refused, or rendered without what is damaged; never a crash, and nothing outside it is written."""
    sound, copy = scratch / "sound", scratch / "damaged"
    line = ["run", "mysql/oltp-read-write", "--allocator", "glibc", "--arena-max", "default,2", "--reps", "2", "--scale", "0.02"]
    subprocess.run([fragbench, *line, "--idle", "1ms", "-o", sound], check=True, capture_output=True)
    names = ["manifest.json", "runs.jsonl", "summary.json", *(f"samples/{p.name}" for p in (sound / "samples").iterdir())]
    for _ in range(count):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(sound, copy)
        file = copy / chance.choice(names)
        file.write_bytes(damaged(file.read_bytes(), chance))
        verb = chance.choice([["report", copy], ["diff", sound, copy], ["run", "--resume", copy, "--dry-run"], ["merge", "-o", scratch / "merged", copy]])
        run(faults, fragbench, verb, copy)
        shutil.rmtree(scratch / "merged", ignore_errors=True)


def names(faults, fragbench, count, chance, scratch):
    """Processes that call themselves what a terminal would obey, seen by every verb that shows names."""
    source, program = scratch / "named.c", scratch / "named"
    source.write_text(
        "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <sys/prctl.h>\n#include <unistd.h>\n"
        "int main(int n, char **a) { prctl(PR_SET_NAME, a[1]); memset(malloc(1 << 20), 1, 1 << 20); puts(\"ready\"); fflush(stdout); pause(); return n; }\n"
    )
    subprocess.run(["cc", "-w", "-o", program, source], check=True)
    pieces = [b"\x1b[2J", b"\x1b]0;x\x07", b"\n", b"\r", b"\xe2\x80\xae", b"\xff\xfe", b"\x9b1m", b") R 1 (", b"%n%s", b"<b>", b"a"]
    for _ in range(count):
        name = b"".join(chance.choice(pieces) for _ in range(4))[:15]
        process = subprocess.Popen([program, name], stdout=subprocess.PIPE)
        process.stdout.readline()
        pid = str(process.pid)
        for verb in (["inspect", pid], ["watch", "--readings", "1", pid], ["export", "--once", pid], ["inspect", "--format", "json", pid]):
            ended = run(faults, fragbench, verb)
            if ended and ended.returncode:
                faults.add(f"{name!r} is not seen: {ended.stderr[-200:]!r}", verb)
        process.kill()
        process.wait()


def kills(faults, fragbench, count, chance, scratch):
    """SIGKILL at a random moment of a run: what was done is there, the rest is done by --resume, and no worker stays."""
    for number in range(count):
        out = scratch / f"killed-{number}"
        line = ["run", "mysql/oltp-read-write", "--allocator", "glibc,jemalloc", "--arena-max", "default", "--reps", "3", "--scale", "0.05"]
        process = subprocess.Popen(
            [fragbench, *line, "--idle", "1ms", "-o", out], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(chance.uniform(0, 2.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 20
        while (left := workers_of(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        if left:
            faults.add(f"workers {left} are left behind", line, out)
        if not (out / "manifest.json").exists():
            shutil.rmtree(out, ignore_errors=True)
            continue
        before = sum(1 for line in (out / "runs.jsonl").read_text().splitlines() if is_json(line)) if (out / "runs.jsonl").exists() else 0
        run(faults, fragbench, ["run", "--resume", out, "--format", "json"], out)
        records = [json.loads(line) for line in (out / "runs.jsonl").read_text().splitlines()]
        done = {record["run"] for record in records}
        planned = len(json.loads((out / "manifest.json").read_text())["plan"]["runs"])
        if len(records) < before or len(done) < planned:
            faults.add(f"{before} runs were done, {len(done)} of {planned} are there after --resume", line, out)
        shutil.rmtree(out)


def workers_of(session):
    """Processes of a session that has lost its leader."""
    left = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_bytes().rsplit(b") ", 1)[1].split()
            except (OSError, IndexError):
                continue
            if int(fields[3]) == session and fields[0] != b"Z":
                left.append(int(entry.name))
    return left


def is_json(line):
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


KINDS = {"traces": (traces, 300), "option_files": (option_files, 200), "profiles": (profiles, 90), "results": (results, 230), "names": (names, 40), "kills": (kills, 140)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fragbench", type=pathlib.Path, default=ROOT / "target/release/fragbench", metavar="FILE")
    parser.add_argument("--share", type=float, default=1.0, metavar="F", help="share of the counts that is done, at least one of each")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--kinds", default=",".join(KINDS), metavar="NAME,…", help="[default: all: %(default)s]")
    parser.add_argument("--keep", type=pathlib.Path, metavar="DIR", help="keep inputs that brought a fault about")
    options = parser.parse_args()
    unknown = set(options.kinds.split(",")) - set(KINDS)
    if unknown:
        parser.error(f"--kinds {','.join(sorted(unknown))}: there are {', '.join(KINDS)}")
    faults = Faults(options.keep)
    for kind in options.kinds.split(","):
        inputs, count = KINDS[kind]
        count = max(1, round(count * options.share))
        begun = faults.count
        with tempfile.TemporaryDirectory() as scratch:
            inputs(faults, os.fspath(options.fragbench.resolve()), count, random.Random(f"{kind} {options.seed}"), pathlib.Path(scratch))
        print(f"{kind}: {count} inputs, {faults.count - begun} faults", flush=True)
    print(f"{faults.runs} commands, {faults.count} faults")
    return 1 if faults.count else 0


if __name__ == "__main__":
    sys.exit(main())
