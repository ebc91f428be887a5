#!/usr/bin/env python3
"""Programs as Debian ships them, through `compare`, `record` and `inspect`: no figure under a wrong name, nothing lost in silence,
nothing left running.

    apt install postgresql default-jre-headless nodejs ruby php-cli nginx-light redis-server haproxy
    harness/validate/shipped.py --fragbench target/release/fragbench [--only nginx,redis]

Valkey (trixie and later) stands in for Redis where it is installed. A program that is not installed is passed over with a word.

What is asked of each: under every cell `compare` either has figures, of processes that proved the cell, or fails the run with
a reason; a server that goes into the background is measured as itself, not as its launcher (more than 1 MiB at its peak); no
process that it started is left. `record` gives a trace with events and ends with 0, or says why not and ends with another
status. `inspect` names a malloc that calls go to, and a verdict. Exit status 1 when anything of this does not hold.
"""

import argparse
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

NGINX = "pid {dir}/pid; error_log {dir}/error.log; events {} http { access_log off; server { listen unix:{dir}/socket; return 200 ok; } }"
HAPROXY = """global
  maxconn 200
defaults
  mode http
  timeout client 5s
  timeout connect 5s
  timeout server 5s
frontend f
  bind unix@{dir}/socket
  http-request return status 200 content-type text/plain string ok
"""
# A load on a unix socket: so many requests one after the other, then a pause in which the server idles.
HTTP = "GET / HTTP/1.0\r\n\r\n"
REDIS = "SET k{n} " + "v" * 200 + "\r\n"
POSTGRES_MAJOR = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def program(name):
    places = [str(path) for path in POSTGRES_MAJOR] + os.environ["PATH"].split(":") + ["/usr/sbin", "/sbin"]
    return shutil.which(name, path=":".join(places))


class Subject:
    """A program, how it is started in a directory, and, for a server, the requests of its load and who runs it."""

    def __init__(self, name, binary, words, files=None, request=None, user=None, setup=None):
        self.name, self.binary, self.words = name, binary, words
        self.files, self.request, self.user, self.setup = files or {}, request, user, setup

    def command(self, directory):
        words = [program(self.binary)] + [word.replace("{dir}", str(directory)) for word in self.words]
        return ["runuser", "-u", self.user, "--", *words] if self.user and os.geteuid() == 0 else words

    def prepare(self, directory):
        for name, text in self.files.items():
            (directory / name).write_text(text.replace("{dir}", str(directory)))
        if self.user and os.geteuid() == 0:
            shutil.chown(directory, self.user)
        if self.setup:
            words = [program(self.setup[0])] + [word.replace("{dir}", str(directory)) for word in self.setup[1:]]
            prefix = ["runuser", "-u", self.user, "--"] if self.user and os.geteuid() == 0 else []
            subprocess.run(prefix + words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def subjects():
    lists = "a = Array.new(100_000) { |i| 'x' * (50 + i % 100) }; sleep 1.5; puts a.size"
    buffers = "const a = []; for (let i = 0; i < 50000; i++) a.push(Buffer.allocUnsafeSlow(200)); setTimeout(() => {}, 1500)"
    strings = "$a = []; for ($i = 0; $i < 100000; $i++) $a[] = str_repeat('x', 50 + $i % 100); usleep(1500000);"
    key = ["-genkeypair", "-keyalg", "RSA", "-keysize", "3072", "-dname", "CN=x", "-storepass", "secret", "-keypass", "secret"]
    store = "valkey-server" if program("valkey-server") else "redis-server"
    cluster = ["initdb", "-D", "{dir}/data", "-A", "trust"]
    postgres = ["-D", "{dir}/data", "-k", "{dir}", "-c", "listen_addresses=", "-c", "port=7"]
    found = [
        Subject("ruby", "ruby", ["-e", lists]),
        Subject("node", "node", ["-e", buffers]),
        Subject("php", "php", ["-r", strings]),
        # A keystore of its own for each run: the name is the process's.
        Subject("java", "sh", ["-c", "exec keytool " + " ".join(key) + " -alias k -keystore {dir}/$$.p12"]),
        Subject("nginx", "nginx", ["-p", "{dir}", "-c", "{dir}/conf"], {"conf": NGINX}, HTTP),
        Subject("haproxy", "haproxy", ["-D", "-f", "{dir}/conf"], {"conf": HAPROXY}, HTTP),
        Subject(store, store, ["--port", "0", "--unixsocket", "{dir}/socket", "--save", ""], None, REDIS),
        Subject("postgres", "postgres", postgres, None, "", "postgres" if os.geteuid() == 0 else None, cluster),
    ]
    for subject in found:
        needs = "keytool" if subject.name == "java" else subject.binary
        known = not subject.user or any(entry.pw_name == subject.user for entry in pwd.getpwall())
        if program(needs) and known:
            yield subject
        else:
            print(f"{subject.name}: not installed, passed over")


def load(path, request, count=200):
    """Sends requests to a unix socket; an empty request connects and leaves."""
    for n in range(count):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            if request:
                connection.sendall(request.replace("{n}", str(n)).encode())
                connection.recv(4096)


def left(directory):
    """Processes whose command line or working directory names the directory."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes()
            here = os.readlink(entry / "cwd")
        except OSError:
            continue
        if str(directory).encode() in words or here.startswith(str(directory)):
            found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


def compared(subject, fragbench, directory):
    result = directory / "result"
    words = [fragbench, "compare", "--reps", "1", "--arena-max", "default,2", "--timeout", "60s", "-o", result]
    if subject.request is not None:
        path = directory / (".s.PGSQL.7" if subject.name == "postgres" else "socket")
        again = f"{sys.executable} {__file__} --load {path} --request {subject.name}"
        words += ["--ready-socket", path, "--load", again, "--idle", "300ms", "--cleanup", f"rm -f {path}"]
    done = subprocess.run([*words, "--", *subject.command(directory)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wrong = []
    records = []
    if (result / "runs.jsonl").exists():
        records = [json.loads(line) for line in (result / "runs.jsonl").read_text().splitlines()]
    if not records:
        # Refused before anything ran: then with a reason and the status of wrong usage.
        return [] if done.returncode == 2 and len(done.stdout) > 40 else [f"compare: no records, {done.stdout[-400:]}"]
    for record in records:
        cell = record["allocator"] + "".join(f" {k}={v}" for k, v in record["settings"].items())
        if record["status"] != "ok":
            print(f"  {cell}: {record['kind']}: {record['reason'][:300]}")
            if len(record["reason"]) < 20:
                wrong.append(f"compare, {cell}: a failure without a reason")
            continue
        peak = record["metrics"].get("heap_rss_peak_bytes", 0)
        proved = sum(process["proved"] for process in record["processes"])
        notes = [caution["text"] for caution in record["cautions"] if caution["kind"] not in ("foreign_cpu", "steal")]
        print(f"  {cell}: {peak / 2**20:.1f} MiB, {proved} proved" + "".join(f"; {note[:160]}" for note in notes))
        if not proved:
            wrong.append(f"compare, {cell}: figures of processes that proved nothing")
        if peak < 1 << 20:
            wrong.append(f"compare, {cell}: {peak} bytes are a launcher's")
    if not any(record["status"] == "ok" for record in records) and done.returncode != 1:
        wrong.append(f"compare: nothing was measured and the status is {done.returncode}")
    return wrong


def started(subject, directory):
    """The program beside fragbench, and its pid once it works: of a server that forks the one that is left."""
    child = subprocess.Popen(subject.command(directory), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if subject.request is None:
        time.sleep(0.5)
        return child, child.pid
    path = directory / (".s.PGSQL.7" if subject.name == "postgres" else "socket")
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            load(str(path), subject.request, 50)
            break
        except OSError:
            time.sleep(0.05)
    servers = [pid for pid in left(directory) if pathlib.Path(f"/proc/{pid}/exe").resolve().name not in ("runuser",)]
    return child, min(servers, default=child.pid)


def end(directory, child):
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in left(directory):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        until = time.monotonic() + 10
        while left(directory) and time.monotonic() < until:
            child.poll()
            time.sleep(0.05)
    child.poll() is None and child.kill()
    child.wait()


def inspected(subject, fragbench, directory):
    child, pid = started(subject, directory)
    try:
        done = subprocess.run([fragbench, "inspect", str(pid), "--format", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode:
            return [f"inspect: {done.stderr.decode()[-300:]}"]
        seen = json.loads(done.stdout)
        named = [malloc["name"] for malloc in seen["mallocs"] if malloc["takes_malloc"]]
        print(f"  inspect: malloc is {', '.join(named) or 'nobody’s'}; {seen['verdict']['kind']}")
        return [] if named and seen["verdict"]["kind"] else ["inspect: no malloc that calls go to, or no verdict"]
    finally:
        end(directory, child)


def recorded(subject, fragbench, directory):
    if subject.request is not None:
        return []
    trace = directory / "trace.fbt"
    words = [fragbench, "record", "-o", trace, "--", *subject.command(directory)]
    done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        print(f"  record: status {done.returncode}, {done.stderr.strip()[-200:]}")
        return [] if len(done.stderr) > 20 else ["record: a failure without a reason"]
    # An incomplete trace gives status 1: then the recording has said why.
    info = json.loads(subprocess.run([fragbench, "trace", "info", trace, "--format", "json"], stdout=subprocess.PIPE).stdout)
    print(f"  record: {info['events']} events, complete {info['complete']}")
    said = done.stderr.strip().splitlines()
    if not info["complete"]:
        print(f"  record: {said[-1][-200:] if said else ''}")
    return [] if info["events"] > 0 and (info["complete"] or len(said) > 1) else ["record: status 0, no events or no reason"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fragbench", default="target/release/fragbench")
    parser.add_argument("--only", help="names, separated by commas")
    parser.add_argument("--load", help=argparse.SUPPRESS)
    parser.add_argument("--request", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        return load(options.load, {"nginx": HTTP, "haproxy": HTTP, "postgres": ""}.get(options.request, REDIS))
    fragbench = str(pathlib.Path(options.fragbench).resolve())
    wrong = []
    for subject in subjects():
        if options.only and subject.name not in options.only.split(","):
            continue
        print(f"{subject.name}:", flush=True)
        with tempfile.TemporaryDirectory(prefix="shipped-", ignore_cleanup_errors=True) as name:
            directory = pathlib.Path(name)
            directory.chmod(0o755)
            subject.prepare(directory)
            faults = compared(subject, fragbench, directory)
            if left(directory):
                faults.append(f"compare: left running: {left(directory)}")
            faults += inspected(subject, fragbench, directory) + recorded(subject, fragbench, directory)
            wrong += [f"{subject.name}: {fault}" for fault in faults]
    print("\n".join(wrong) or "0 faults")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
