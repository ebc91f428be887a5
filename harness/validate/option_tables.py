#!/usr/bin/env python3
"""Writes harness/option_file/servers/NAME.txt from the server itself: every option it knows, and for the variables that
the models know their default and the bounds it keeps values in, found by giving it 0, the greatest number and a number
with all low bits set. Run it when a server's version moves; the tables are committed.

usage: option_tables.py --servers DIR [NAME...]
"""

import argparse
import json
import pathlib
import re
import subprocess
import tempfile

import servers

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMES = ["mariadb-10.11", "mariadb-11.8", "mysql-9.7"]
GREATEST = 2**64 - 1
# The server lowers what it prints by the descriptors it may have, and says nothing of the bound: these are of the MySQL
# Reference Manual, "Server System Variables"; thread_stack's printed bound is the address space's.
DOCUMENTED = {
    ("mysql-9.7", "table_open_cache"): 524288,
    ("mysql-9.7", "max_connections"): 100000,
    ("mariadb-10.11", "thread_stack"): 18446744073709550592,
    ("mariadb-11.8", "thread_stack"): 18446744073709550592,
}
# Bounded by descriptors or by one another: no larger number is given to find the block.
SMALL = {"table_open_cache_instances": 3, "table_open_cache": 4095, "table_cache": 4095, "max_connections": 127, "thread_cache_size": 127}
# Their value is a file's name, so that any value turns them on.
FILES = {"log_bin"}
WORDS = {"internal_tmp_mem_storage_engine": ["MEMORY", "TempTable"]}


def modelled(fragbench):
    """Names and aliases of the variables that the models know."""
    text = subprocess.run([fragbench, "list", "workloads", "--format", "json"], capture_output=True, check=True).stdout
    facts = [fact for fact in json.loads(text)["workloads"] if fact["name"].startswith("mysql/")]
    return {name for fact in facts for p in fact["parameters"] for name in [p["name"], *p.get("aliases", [])]}


def given(start, name, value):
    """What a server makes of one value: as printed, and as it says it adjusted it."""
    with tempfile.NamedTemporaryFile("w", suffix=".cnf") as file:
        file.write(f"[mysqld]\n{name}={value}\n")
        file.flush()
        _, table, said = servers.help_of(start, [f"--defaults-file={file.name}"])
    adjusted = re.findall(r"value \d+ adjusted to (\d+)", said)
    printed = table and table.get(name)
    refused = "Error while setting" in said
    return None if refused or not printed else int(printed), int(adjusted[0]) if adjusted else None


def bounds(server, start, name):
    """Least, greatest, multiple of; `signed` where the server reads it as a number that may be negative."""
    printed, adjusted = given(start, name, 0)
    least = adjusted if adjusted is not None else printed
    printed, adjusted = given(start, name, GREATEST)
    signed = printed is None
    if signed:
        printed, adjusted = given(start, name, GREATEST // 2)
    most = DOCUMENTED.get((server, name), adjusted if adjusted is not None else printed)
    probe = SMALL.get(name, 2 ** min(40, (most + 1).bit_length() - 1) - 1)
    printed, _ = given(start, name, probe)
    block = probe + 1 - printed if least <= probe and printed and printed != probe else 1
    return f"{least} {most} {block}" + (" signed" if signed else "")


def table(server, start, wanted):
    """The lines of a server's file."""
    _, defaults, _ = servers.help_of(start)
    names, plugins = servers.option_names(start)
    for name in sorted(names | set(defaults)):
        value = defaults.get(name)
        if name in plugins:
            yield f"{name} plugin"
        elif name not in wanted or value is None:
            yield name
        elif name in FILES:
            yield f"{name} file {'OFF' if value == '(No default value)' else 'ON'}"
        elif name in WORDS:
            yield f"{name} words {value} {','.join(WORDS[name])}"
        elif value in ("TRUE", "FALSE"):
            yield f"{name} switch {'ON' if value == 'TRUE' else 'OFF'}"
        else:
            yield f"{name} number {value} {bounds(server, start, name)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--servers", default=ROOT / "target/servers", help="directory of fetch_servers.sh")
    parser.add_argument("--fragbench", default=ROOT / "target/release/fragbench")
    parser.add_argument("name", nargs="*", default=NAMES)
    options = parser.parse_args()
    wanted = modelled(options.fragbench)
    for name in options.name:
        start = servers.command(options.servers, name)
        version = subprocess.run([*start, "--version"], capture_output=True, text=True).stdout.split("Ver ")[1].split()[0]
        head = f"# Options of {name} as {version} prints them; harness/validate/option_tables.py writes this file.\n"
        head += "# NAME, and of variables that the models know: number DEFAULT LEAST MOST MULTIPLE [signed], switch DEFAULT,\n"
        head += "# file DEFAULT, words DEFAULT WORD,WORD; plugin where the option turns one on or off. Names with underscores.\n"
        file = ROOT / "harness/option_file/servers" / f"{name}.txt"
        file.write_text(head + "".join(line + "\n" for line in table(name, start, wanted)))
        print(f"{file.relative_to(ROOT)}: {version}")


if __name__ == "__main__":
    main()
