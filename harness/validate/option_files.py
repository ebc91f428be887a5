#!/usr/bin/env python3
"""Does fragbench read an option file as the servers do? Every case goes through each server's own
`--defaults-file=F --help --verbose` and through `fragbench run mysql --my-cnf F --dry-run`; what differs is printed, and the
exit status is 1. Cases: files given with --cases (a directory of .cnf files), what is written below, and for each variable
that the models know values at, below and above its bounds, none, 0, -1, units, text.

usage: option_files.py --servers DIR [--cases DIR] [--pin] [NAME...]

--pin writes the servers' answers to harness/option_file/tests/judged.txt, which a test of that crate reads without servers.
"""

import argparse
import concurrent.futures
import json
import pathlib
import subprocess
import sys
import tempfile

import servers
from option_tables import NAMES, ROOT

# What a server does not start with. MySQL prints its table all the same and ends with 1.
REFUSALS = ["Error while setting value", "ambiguous option", "requires an argument", "Empty value", "Fatal error in defaults"]
# Lowered by the descriptors a server may have, by the address space, or by one another: only small values are compared.
BOUNDED = {"max_connections": 500, "table_open_cache": 3000, "table_cache": 3000, "thread_stack": 1 << 30, "thread_cache_size": 100}
# Follow other variables where they are not given.
FOLLOWING = ["thread_cache_size", "table_definition_cache", "table_open_cache_instances", "table_open_cache"]

LINES = """
sort_buffer_size=4MB|sort_buffer_size=4Mx ; y|sort_buffer_size= 4 M|sort_buffer_size=4x|sort_buffer_size="4M"|sort_buffer_size='4M'#x
sort_buffer_size="5M" rest|sort_buffer_size="5M|sort_buffer_size = 5\\M|sort_buffer_size=+5M|sort_buffer_size=0x100000|sort_buffer_size=-5M
sort_buffer_size=99999999999999999999|sort_buffer_size=100E|sort_buffer_size=K|sort_buffer_size#x=5M|sort_buffer_size=5M=6M
Sort_Buffer_Size=4M|SORT-BUFFER_size=4M|sort.buffer.size=4M|sort_buffer=4M|key_buffer=16M|max_allowed=32M|max_conn=300|table_open=3000
table_cache=3000|innodb_ft_c=2000000|innodb-buffer-pool-siz=1G|tmp_table=4M|log_b=foo|frob=1|frob|sort buffer size|=4M|sort_buffer_size 4M
--sort_buffer_size=4M|-sort_buffer_size=4M|--loose-sort_buffer_size=4M|loose-frob=1|loose_sort_buffer=4M|loose-sort-buffer-size=4M
maximum-sort-buffer-size=4M|skip-sort-buffer-size|enable-sort-buffer-size|skip-frob|loose-skip-performance-schema|loose-enable-performance-schema|skip-sort-buffer-size=0
performance_schema|performance_schema=|performance_schema=maybe|performance_schema=tRue|performance_schema=2|performance_schema=OFF
skip-performance-schema|skip_performance_schema=0|skip_performance_schema=1|skip_performance_schema=OFF|disable-performance-schema
enable-performance_schema|enable-performance-schema=0|SKIP-performance-schema|Performance_Schema=ON|performance_schem=ON
log_bin|log_bin=|log_bin=OFF|log_bin=0|log_bin=ON|log-bin=/x/y|skip-log-bin|skip_log_bin=0|skip-log-bin=1|skip_log_bin=OFF|disable_log_bin
disable-log-bin=0|log-bin=x # y|skip-log-bin # y|skip-log-bin ; y|log_bin="a#b"
internal_tmp_mem_storage_engine=memory|internal_tmp_mem_storage_engine=Temp|internal_tmp_mem_storage_engine=1|internal_tmp_mem_storage_engine=7
internal_tmp_mem_storage_engine=|internal_tmp_mem_storage_engine=m|internal_tmp_mem_storage_engine
tmp_table_size=4M|tmp_memory_table_size=4M|replica_parallel_workers=7|slave_parallel_threads=7|slave_parallel_workers=7
replica_max_allowed_packet=1M|query_cache_size=1M|datadir=/x|thread_stack=256K|!foo x|!INCLUDE x
"""
FILES = [
    b"[mysqld]\nsort_buffer_size=1M\n[server]\nsort_buffer_size=3M\n[mysqld]\n",
    b"[MySQLd]\nsort_buffer_size=3M\n[MARIADB]\njoin_buffer_size=1M\n",
    b"[ mysqld ]\nsort_buffer_size=3M\n",
    b"[mysqld ] # x\nsort_buffer_size=3M\n",
    b"[mysqld]x\nsort_buffer_size=3M\n",
    b"[mysqld\nsort_buffer_size=3M\n",
    b"[client\n[mysqld]\nsort_buffer_size=3M\n",
    b"sort_buffer_size=3M\n[mysqld]\n",
    b"\xef\xbb\xbf[mysqld]\nsort_buffer_size=3M\n",
    b"[mysqld]\n\xef\xbb\xbfsort_buffer_size=3M\n",
    b"[mysqld]\r\nsort_buffer_size=3M # \xb6\xcb\r\n",
    b"[mysqld]\rsort_buffer_size=3M\r",
    b"[client]\nfoo bar=baz\n= 7\n[mysqld]\nsort_buffer_size=3M",
    b"[mysqld]\nsort_buffer_size=3M\0x\n",
    b"[mysqld]\n\xa0sort_buffer_size=3M\xa0\n",
    b"[mysqld]\nskip-log-bin\nlog-bin=x\n",
    b"[mysqld]\nlog-bin=x\nskip-log-bin\n",
    b"[mysqld]\ntmp_table_size=4M\ntmp_memory_table_size=8M\n",
    b"[mysqld]\n!include\nsort_buffer_size=3M\n",
    b"[mysqld]\n!includedir /nowhere\nsort_buffer_size=3M\n",
    b"[mysqld]\n!include /nowhere/x.cnf\nsort_buffer_size=3M\n",
] + [
    f"[{group}]\nsort_buffer_size=3M\n".encode()
    for group in "mysqld-9.7 mysqld-9 mysqld-8.0 mysqld-10.11 mysqld-11.8 mysqld-10 mariadb mariadb-10.6 mariadb-10.11 mariadb-11 mariadb-11.8 "
    "MariaDBd-11.8 mariadbd galera client-server Server mysqld1 mysqld_safe client".split()
]
# Several files: the first is the one the server is started with.
TREES = [
    {"my.cnf": b"[mysqld]\n!include j.cnf\nsort_buffer_size=3M\n", "j.cnf": b"[mysqld]\njoin_buffer_size=1M\n"},
    {"my.cnf": b"[mysqld]\n!include j.cnf # c\n", "j.cnf": b"[mysqld]\njoin_buffer_size=1M\n"},
    {"my.cnf": b"[client]\n!include j.cnf\nsort_buffer_size=3M\n", "j.cnf": b"[mysqld]\njoin_buffer_size=1M\n"},
    {"my.cnf": b'[mysqld]\n!include "j.cnf"\n', "j.cnf": b"[mysqld]\njoin_buffer_size=1M\n"},
    {"my.cnf": b"[mysqld]\n!include d/a.cnf\n", "d/a.cnf": b"[mysqld]\n!include b.cnf\n!include d/b.cnf\n", "d/b.cnf": b"[mysqld]\njoin_buffer_size=1M\n"},
    {"my.cnf": b"[mysqld]\n!includedir d\n", "d/b.cnf": b"[mysqld]\njoin_buffer_size=2M\n", "d/a.cnf": b"[mysqld]\njoin_buffer_size=1M\n", "d/c.ini": b"[mysqld]\nread_buffer_size=1M\n"},
    {"my.cnf": b"[mysqld]\nread_buffer_size=1M\n!include my.cnf\nsort_buffer_size=3M\n"},
    {"my.cnf": b"[mysqld]\n!include a.cnf\nsort_buffer_size=3M\n", "a.cnf": b"read_buffer_size=1M\n[mysqld]\njoin_buffer_size=1M\n"},
    {"my.cnf": b"[mysqld]\n!include a.cnf\nsort_buffer_size=3M\n", "a.cnf": b"[mysqld]\njoin_buffer_size=1M\n[mysqld\nread_buffer_size=1M\n"},
    {"my.cnf": b"[mysqld]\n!include a.cnf\nsort_buffer_size=3M\n", "a.cnf": b"[mysqld]\njoin_buffer_size=1M\n!includedir nowhere\nread_buffer_size=1M\n"},
    {"my.cnf": b"[mysqld]\n!include n1.cnf\nsort_buffer_size=3M\n"}
    | {f"n{i}.cnf": f"[mysqld]\nread_buffer_size={i}M\n!include n{i + 1}.cnf\n".encode() for i in range(1, 14)},
]


def parameters(fragbench):
    """Names of the variables that the models know, each with its aliases."""
    run = subprocess.run([fragbench, "list", "workloads", "--format", "json"], capture_output=True, check=True)
    fact = next(fact for fact in json.loads(run.stdout)["workloads"] if fact["name"] == "mysql/connection-storm")
    return {p["name"]: [p["name"], *p.get("aliases", [])] for p in fact["parameters"]}


def table(server):
    """The committed table of a server, by name."""
    lines = (ROOT / "harness/option_file/servers" / f"{server}.txt").read_text().splitlines()
    return {line.split()[0]: line.split()[1:] for line in lines if not line.startswith("#")}


def generated(server):
    """A file for each value worth trying of each variable of the models."""
    for name, (kind, *rest) in ((n, k) for n, k in table(server).items() if k):
        tries = []
        if kind == "number" and not (name == "table_open_cache_instances" and server != "mysql-9.7"):
            _, least, most, multiple = (int(word) for word in rest[:4])
            top = BOUNDED.get(name, most)
            tries = ["", "0", "-1", "x", "1.5M", str(max(least - 1, 0)), str(least), str(least + multiple // 2), str(min(most, top))]
            tries += [] if name in BOUNDED else [str(most - 1), str(most + 1), "3M", "1T", "3P", "9E", "20E", "7000001"]
        yield f"[mysqld]\n{name}\n".encode()
        for text in tries:
            yield f"[mysqld]\n{name}={text}\n".encode()


class Judge:
    """A server and what it prints by default."""

    def __init__(self, name, start, names):
        self.name, self.start, self.names = name, start, names
        self.defaults = self.printed(servers.help_of(start)[1], servers.help_of(start)[1])

    def printed(self, values, defaults):
        """The values of the models' variables, by the parameter's name."""
        found = {}
        for parameter, names in self.names.items():
            value = next((values[name] for name in names if name in values), None)
            if value is None:
                continue
            if parameter == "log_bin":
                on = values["version"].endswith("-log") if "mariadb" in self.name else value != "(No default value)"
                value = "ON" if on else "OFF"
            found[parameter] = {"TRUE": "ON", "FALSE": "OFF"}.get(value, value)
        return found

    def answer(self, directory):
        """None when the server does not start with the file."""
        status, values, said = servers.help_of(self.start, ["--defaults-file=my.cnf"], cwd=directory)
        if values is None or any(words in said for words in REFUSALS) or (status == 1 and "mysql" in self.name):
            return None
        return self.printed(values, self.defaults)


def fragbench_answer(fragbench, server, directory, defaults):
    command = [fragbench, "run", "mysql/connection-storm", "--allocator", "glibc", "--arena-max", "default", "--my-cnf", "my.cnf"]
    run = subprocess.run([*command, "--flavor", server, "--dry-run", "--format", "json"], capture_output=True, cwd=directory)
    said = run.stderr.decode(errors="replace")
    if run.returncode == 2:
        return None, said
    if run.returncode:
        raise SystemExit(f"fragbench: {said}")
    given = json.loads(run.stdout)["cells"][0]["workload"]["parameters"]
    return {name: value for name, value in given.items() if name in defaults}, said


def differences(judge, theirs, ours):
    """Parameters on which a server and fragbench differ: what each has."""
    if theirs is None or ours is None:
        return {} if theirs is ours else {"refused": (theirs is None, ours is None)}
    found = {}
    for name, default in judge.defaults.items():
        if name in FOLLOWING and name not in ours:
            continue
        lowered = name in ("max_connections", "table_open_cache") and int(ours.get(name, 0)) > servers.DESCRIPTORS / 6
        if lowered and int(theirs[name]) < int(ours[name]):
            continue
        if theirs[name] != ours.get(name, default):
            found[name] = (theirs[name], ours.get(name, default))
    return found


def escaped(text):
    return text.decode("latin1").encode("unicode_escape").decode()


def run_case(judge, fragbench, files):
    with tempfile.TemporaryDirectory() as directory:
        for name, text in files.items():
            path = pathlib.Path(directory) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
        theirs = judge.answer(directory)
        ours, said = fragbench_answer(fragbench, judge.name, directory, judge.defaults)
    return theirs, ours, said


def pinned(judge, files, theirs):
    """A line of judged.txt: server, file, what is not as by default; names as the server has them."""
    if theirs is None:
        outcome = "refused"
    else:
        own = table(judge.name)
        changed = []
        for name, value in theirs.items():
            if value != judge.defaults[name] and not (name in FOLLOWING and not any(n in escaped(files["my.cnf"]) for n in judge.names[name])):
                changed.append(f"{next(n for n in judge.names[name] if n in own)}={value}")
        outcome = " ".join(changed) or "-"
    return f"{judge.name}\t{escaped(files['my.cnf'])}\t{outcome}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--servers", default=ROOT / "target/servers", help="directory of fetch_servers.sh")
    parser.add_argument("--fragbench", default=ROOT / "target/release/fragbench", type=pathlib.Path)
    parser.add_argument("--cases", type=pathlib.Path, help="a directory of further .cnf files")
    parser.add_argument("--pin", action="store_true", help="write the answers for the crate's test")
    parser.add_argument("name", nargs="*", default=NAMES)
    options = parser.parse_args()
    fragbench = options.fragbench.resolve()
    names = parameters(fragbench)
    single = [b"[mysqld]\n" + line.encode() + b"\n" for lines in LINES.strip().split("\n") for line in lines.split("|")] + FILES
    given = [{"my.cnf": path.read_bytes()} for path in sorted(options.cases.glob("*.cnf"))] if options.cases else []
    wrong, count, pins = 0, 0, []
    for name in options.name:
        judge = Judge(name, servers.command(options.servers, name), names)
        alone = [{"my.cnf": text} for text in [*single, *generated(name)]]
        cases = alone + TREES + given
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda files: run_case(judge, fragbench, files), cases))
        for number, (files, (theirs, ours, said)) in enumerate(zip(cases, answers)):
            count += 1
            if number < len(alone):
                pins.append(pinned(judge, files, theirs))
            if differ := differences(judge, theirs, ours):
                wrong += 1
                print(f"{name}: {escaped(files['my.cnf'])}\n  (server, fragbench): {differ}\n  fragbench said: {said.strip()}")
    if options.pin:
        head = "# What servers make of option files; harness/validate/option_files.py --pin writes this file.\n# SERVER, FILE, what is not as by default.\n"
        (ROOT / "harness/option_file/tests/judged.txt").write_text(head + "".join(pins))
    print(f"{count} files, {wrong} read differently")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
