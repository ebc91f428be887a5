"""The loads: what each does to a real server, deterministic in effect (fixed seeds, each session the same share of work).

A load brings its sessions to a common moment, holds them there long enough to be sampled (its peak), lets them go, and
ends when the last session is gone. `mark(NAME)` is called at each moment that the recording keeps.
"""

import pathlib
import time
from dataclasses import dataclass, field
from typing import Callable

from server import DATABASE, VARIABLES, finish, wait_until

LUA = pathlib.Path(__file__).resolve().parent / "scenarios"
# Longer than mimalloc's purge delay of 1 s: what the load freed is then due when the sessions end, in every run.
PEAK_S = 1.2
OLTP = ["--tables=4", "--table-size=10000"]


@dataclass(frozen=True)
class Scenario:
    """`model` is the synthetic workload that stands for this load, None when there is none. `variables` are the server's
    in this load, beside those of every load; `model_load` are parameters of the model where its default is a smaller load."""

    name: str
    load: Callable
    prepare: Callable
    model: str | None
    variables: dict = field(default_factory=dict)
    model_load: dict = field(default_factory=dict)


def model_variables(scenario):
    """What the model of a load is to be told."""
    return VARIABLES | scenario.variables | scenario.model_load


def prepared(server, script, *commands):
    """Makes the database and runs the script's own preparing commands."""
    server.execute(f"CREATE DATABASE `{DATABASE}`; CREATE TABLE `{DATABASE}`.gate (id INT PRIMARY KEY) ENGINE=InnoDB")
    sequences = [12, 20, 20000] if server.installation.flavor == "mysql" else []
    for last in sequences:  # MariaDB has them as tables of an engine of its own
        server.execute(
            f"USE `{DATABASE}`; SET cte_max_recursion_depth = {last}; CREATE TABLE seq_1_to_{last} (seq INT PRIMARY KEY); "
            f"INSERT INTO seq_1_to_{last} WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {last}) SELECT n FROM s"
        )
    for command in commands:
        finish(server.sysbench(f"{script}.lua", *command, directory=LUA))
    for last in sequences:
        server.execute(f"DROP TABLE `{DATABASE}`.seq_1_to_{last}")
    server.analyze()  # so that no plan depends on when statistics were last gathered


def held(server, mark, script, threads, share=1, arguments=(), meanwhile=None):
    """Runs a script's sessions to the gate, holds them there, calls `meanwhile`, opens the gate and sees them out."""
    keeper = server.session()
    keeper.do("LOCK TABLE gate WRITE")
    waiting = "SELECT COUNT(*) FROM information_schema.processlist WHERE state LIKE 'Waiting for table metadata lock%'"
    others = "SELECT COUNT(*) - 1 FROM information_schema.processlist WHERE user = 'root'"
    own = [f"--threads={threads}", f"--events={threads * share}", f"--share={share}", "--time=0"]
    run = server.sysbench(f"{script}.lua", *own, *arguments, "run", directory=LUA)

    def full():
        if run[0].poll() is not None:
            finish(run)  # says why it ended before the gate opened
        return keeper.ask(waiting) == str(threads)

    wait_until(full, "full gate")
    mark("peak")
    time.sleep(PEAK_S)
    if meanwhile:
        meanwhile()
    keeper.do("UNLOCK TABLES")
    finish(run)
    wait_until(lambda: keeper.ask(others) == "0", "end of all sessions")
    keeper.close()


def oltp(script, share, name=None):
    return Scenario(
        name=name or script,
        prepare=lambda server: prepared(server, script, [*OLTP, "prepare"]),
        load=lambda server, mark: held(server, mark, script, 64, share, OLTP),
        model=None if name else f"mysql/{script}",
    )


def storm(server, mark):
    """Three waves of different size; sessions and their threads end after each."""
    for wave, (sessions, rows) in enumerate([(150, 1500), (260, 1200), (90, 2500)], 1):
        held(server, mark, "connection-storm", sessions, 1, [f"--rows={rows}", f"--seed-of-wave={wave}"])
        time.sleep(0.3)


def days_and_nights(server, mark):
    """Days of transactions; each night everything is dumped, and the archives have twice as many rows the next day."""
    for day in range(1, 4):
        held(server, mark, "nightly-dump", 24, 20, OLTP)
        mark("night")
        server.dump("--single-transaction", "--quick")
        grow = (f"INSERT INTO archive{i} (note, body) SELECT note, body FROM archive{i};" for i in range(1, 81))
        server.execute(f"USE `{DATABASE}`; " + "".join(grow))


# Those with a model are validated; the others are recorded for the traces that the project ships.
SCENARIOS = {
    scenario.name: scenario
    for scenario in [
        oltp("oltp-read-write", 66),
        oltp("oltp-point-select", 3000),
        Scenario(
            "connection-storm",
            prepare=lambda server: prepared(server, "connection-storm", ["prepare"]),
            load=storm,
            model="mysql/connection-storm",
        ),
        Scenario(
            "blob-stream",
            prepare=lambda server: prepared(server, "blob-stream", ["prepare"]),
            load=lambda server, mark: held(server, mark, "blob-stream", 16, 20),
            model="mysql/blob-stream",
            model_load={"values": "10"},
        ),
        Scenario(
            "prepared-statement-churn",
            prepare=lambda server: prepared(server, "prepared-statement-churn", ["prepare"]),
            load=lambda server, mark: held(server, mark, "prepared-statement-churn", 48, 16),
            model="mysql/prepared-statement-churn",
        ),
        Scenario(
            "table-cache-churn",
            prepare=lambda server: prepared(server, "table-cache-churn", ["prepare"]),
            load=lambda server, mark: held(server, mark, "table-cache-churn", 24, 120),
            model="mysql/table-cache-churn",
            variables={"table_open_cache": "100", "table_definition_cache": "400"},
        ),
        Scenario(
            "nightly-dump",
            prepare=lambda server: prepared(server, "nightly-dump", [*OLTP, "prepare"], ["archives"]),
            load=days_and_nights,
            model="mysql/nightly-dump",
            variables={"table_open_cache": "100"},
        ),
        # MySQL's trace of 66 transactions a session would be larger than the project ships.
        oltp("oltp-read-write", 30, "oltp-read-write-short"),
        Scenario(
            "blob-churn",
            prepare=lambda server: prepared(server, "blob-churn", ["prepare"]),
            load=lambda server, mark: held(server, mark, "blob-churn", 12, 125),
            model=None,
        ),
    ]
}
