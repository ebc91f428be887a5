#!/usr/bin/env python3
"""A real MariaDB that has been through a load and holds what the load left: starts one privately, drives it, lets it idle,
and then runs a shell command in which {pid} stands for the server.

    harness/validate/bloated.py -- 'fragbench inspect {pid} && fragbench trim {pid}'
    harness/validate/bloated.py --during 'fragbench watch {pid} --record storm.jsonl >/dev/null' -- 'fragbench trim {pid}; sleep 3'

Its exit status is the command's. Needs Debian's mariadb-server and sysbench; ends only what it started.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

from record import Marks, template
from scenarios import SCENARIOS
from server import Server, ServerError, require


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--load", default="connection-storm", choices=sorted(SCENARIOS), help="[default: %(default)s]")
    parser.add_argument("--idle", type=float, default=2.5, metavar="S", help="seconds between load and command [default: 2.5]")
    parser.add_argument("--during", metavar="CMD", help="runs from before the load until the server ends, {pid} as in the command")
    parser.add_argument("command", help="for the shell; {pid} is the server's process")
    options = parser.parse_args()
    scenario = SCENARIOS[options.load]
    try:
        require("mariadbd", "mariadb", "mariadb-install-db", "sysbench")
        with tempfile.TemporaryDirectory(prefix="fragbench-bloated-") as scratch:
            server = Server(pathlib.Path(scratch) / "server", scenario.variables, template(scenario, scratch))
            beside = None
            try:
                server.start()
                if options.during:
                    beside = subprocess.Popen(options.during.replace("{pid}", str(server.pid)), shell=True)
                scenario.load(server, Marks(time.monotonic_ns()))
                time.sleep(options.idle)
                status = subprocess.run(options.command.replace("{pid}", str(server.pid)), shell=True).returncode
            finally:
                server.discard()
                if beside and beside.wait() != 0:
                    sys.exit(f"bloated.py: `{options.during}` ended with status {beside.returncode}")
    except (ServerError, OSError) as error:
        sys.exit(f"bloated.py: {error}")
    sys.exit(status)


if __name__ == "__main__":
    main()
