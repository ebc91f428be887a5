"""A private MySQL or MariaDB server: its own data directory, a unix socket, no configuration file. A server of the
system's is neither used nor touched, and only processes started here are ended.

Refuses to run without Debian's mariadb-server (whose clients talk to all of them) and sysbench. The options differ from
the server's defaults as OPTIONS says, each for a reason.
"""

import ctypes
import os
import pathlib
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field

import servers

# Each keeps memory that is not malloc's small or steady, or keeps the disk from setting the pace.
OPTIONS = [
    "--skip-networking",
    "--performance-schema=OFF",
    "--innodb-buffer-pool-size=64M",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=OFF",
    "--innodb-flush-method=nosync",
    "--open-files-limit=4096",
]
OF_FLAVOR = {
    # The pool's address space is reserved whole at the start: small, the heap is most of what the server holds.
    "mariadb": ["--innodb-buffer-pool-size-max=64M", "--innodb-log-file-size=64M", "--sync-frm=OFF"],
    "mysql": ["--innodb-redo-log-capacity=64M", "--skip-log-bin", "--mysqlx=OFF", "--secure-file-priv="],
}
# The statements that make MariaDB's own tables, in the order of mariadb-install-db, which would not start by a loader.
SYSTEM_TABLES = ["system_tables", "performance_tables", "system_tables_data"]
# Server variables of every load; the model of a load has them too.
VARIABLES = {
    "max_connections": "500",
    # Threads end with their connections but for a few, as they do on a server left idle for five minutes.
    "thread_cache_size": "4",
    "max_allowed_packet": "16M",
}
DATABASE = "load"
PR_SET_THP_DISABLE = 41  # <linux/prctl.h>
WAIT_S = 60
os.environ["PATH"] += os.pathsep + "/usr/sbin"  # where Debian has the server, and a user's PATH does not look


class ServerError(Exception):
    """What the server or its load said when it failed."""


def require(*programs):
    """Raises ServerError naming the first program that is not there."""
    for program in programs:
        if shutil.which(str(program)) is None:
            raise ServerError(f"{program} not found; Debian: apt install mariadb-server sysbench gcc; cargo build --release")


def wait_until(condition, what, seconds=WAIT_S):
    """Polls until `condition()` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ServerError(f"no {what} within {seconds} s")
        time.sleep(0.05)


def without_huge_pages():
    """In a child before exec: MariaDB disables transparent huge pages only after it has made its buffer pool (MDEV-33279),
    by when an allocator that asks for them (mimalloc 3 does) holds some. A replaying worker has none from the start."""
    ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)


@dataclass(frozen=True)
class Installation:
    """Which server is started: `command` are its first words, `home` what a fetched one lies in (None: the machine's)."""

    name: str = "mariadb-10.11"
    command: list = field(default_factory=lambda: servers.command(None, "mariadb-10.11"))
    home: pathlib.Path | None = None

    @staticmethod
    def named(name, root):
        """The machine's, or one that fetch_servers.sh unpacked in `root`."""
        if name == "mariadb-10.11":
            return Installation()
        home, _ = servers.fetched(root, name)
        return Installation(name, servers.command(root, name), home)

    @property
    def flavor(self):
        """`mysql` or `mariadb`."""
        return self.name.split("-")[0]

    @property
    def options(self):
        """What every start of this server needs."""
        own = OPTIONS + OF_FLAVOR[self.flavor]
        if self.home:
            own += [f"--basedir={self.home}/usr", f"--lc-messages-dir={self.share}", f"--character-sets-dir={self.share}/charsets"]
        return own

    @property
    def share(self):
        """Messages, character sets and the statements that make MariaDB's own tables."""
        return self.home / "usr/share" / self.flavor

    def start(self, under_libc=False):
        """The command's first words; `under_libc`: with the C library's malloc also where the server is linked with another,
        and libstdc++'s `operator new`, by the loader's own preload, which comes after LD_PRELOAD's."""
        if not (under_libc and self.home):
            return self.command
        own = ":".join(str(self.library(name)) for name in ["libstdc++.so.6", "libc.so.6"])
        return [self.command[0], "--preload", own, *self.command[1:]]

    def library(self, name):
        """A library as this server would load it; None for one that the machine's loader finds by itself."""
        found = sorted(self.home.glob(f"usr/lib/*/{name}")) if self.home else []
        return found[0] if found else None


class Session:
    """One connection that stays: statements through a pipe, so that asking often makes no threads in the server."""

    def __init__(self, server):
        command = ["mariadb", "--no-defaults", f"--socket={server.socket}", "--user=root", "--batch"]
        command += ["--skip-column-names", "--unbuffered", DATABASE]
        self.client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def ask(self, statement):
        """The one value a statement returns, as text."""
        self.client.stdin.write(f"{statement};\n")
        self.client.stdin.flush()
        answer = self.client.stdout.readline()
        if not answer:
            raise ServerError(f"the server ended the session at: {statement}")
        return answer.rstrip("\n")

    def do(self, statement):
        """Runs a statement that returns nothing."""
        self.ask(f"{statement}; SELECT 1")

    def close(self):
        self.client.stdin.close()
        self.client.wait(timeout=WAIT_S)
        self.client.stdout.close()


class Server:
    """A server on `directory`, which is made from `template` (a prepared data directory) or anew."""

    def __init__(self, directory, variables, template=None, installation=None):
        self.installation = installation or Installation()
        self.directory = pathlib.Path(directory)
        self.socket = self.directory / "socket"
        self.pid_file = self.directory / "pid"
        self.process = None
        (self.directory / "tmp").mkdir(parents=True)
        here = self.directory
        self.options = ["--no-defaults", f"--datadir={here}/data", f"--socket={self.socket}"]
        self.options += [f"--pid-file={self.pid_file}", f"--tmpdir={here}/tmp", f"--log-error={here}/error.log"]
        self.options += self.installation.options + [f"--{name}={value}" for name, value in (VARIABLES | variables).items()]
        if os.geteuid() == 0:
            self.options.append("--user=root")
        if template:
            shutil.copytree(template, here / "data")
        else:
            self._install()

    def _install(self):
        """Makes a data directory with the server's own tables and a root without a password."""
        here, kind = self.directory, self.installation
        if kind.flavor == "mysql":
            self._run([*kind.command, *self.options, "--initialize-insecure"], here / "install.log")
        elif kind.home is None:
            install = ["mariadb-install-db", *self.options, "--auth-root-authentication-method=normal", "--skip-test-db"]
            self._run(install, here / "install.log")
        else:
            (here / "data/mysql").mkdir(parents=True)
            files = [(kind.share / f"mariadb_{name}.sql").read_text() for name in SYSTEM_TABLES]
            script = here / "install.sql"
            script.write_text("CREATE DATABASE IF NOT EXISTS mysql;\nUSE mysql;\nSET @auth_root_socket=NULL;\n" + "\n".join(files))
            with open(script, encoding="utf-8") as statements:
                self._run([*kind.command, *self.options, "--bootstrap"], here / "install.log", stdin=statements)

    def start(self, run_by=(), environment=None, under_libc=False):
        """Starts the server, by the command `run_by` when given, and waits for its answer."""
        self.pid_file.unlink(missing_ok=True)
        with open(self.directory / "out.log", "ab") as log:
            self.process = subprocess.Popen(
                [*run_by, *self.installation.start(under_libc), *self.options],
                stdout=log,
                stderr=log,
                env=environment,
                preexec_fn=without_huge_pages,
            )
        wait_until(self._answers, "answer of the server" + self.last_words())

    @property
    def pid(self):
        """The server's own process id, also when another command runs it."""
        return int(self.pid_file.read_text())

    def stop(self):
        """Ends the server in order, through what runs it."""
        self.process.terminate()
        self.process.wait(timeout=WAIT_S)
        self.process = None

    def discard(self):
        """Ends the server at once, if it still runs, and removes its directory."""
        if self.process is not None:
            if self.pid_file.exists():
                try:
                    os.kill(self.pid, signal.SIGKILL)
                except (OSError, ValueError):
                    pass  # it has ended by itself
            self.process.kill()
            self.process.wait(timeout=WAIT_S)
            self.process = None
        shutil.rmtree(self.directory)

    def session(self):
        return Session(self)

    def execute(self, script):
        """Runs SQL in a connection of its own."""
        command = ["mariadb", "--no-defaults", f"--socket={self.socket}", "--user=root", "--batch"]
        run = subprocess.run(command, input=script, text=True, capture_output=True)
        if run.returncode:
            raise ServerError(run.stderr.strip())

    def sysbench(self, script, *arguments, directory):
        """A started sysbench; its output goes to a log that `finish` shows when it fails."""
        command = ["sysbench", "--db-driver=mysql", f"--mysql-socket={self.socket}", "--mysql-user=root"]
        command += [f"--mysql-db={DATABASE}", "--rand-seed=7", "--verbosity=3", script, *arguments]
        log = open(self.directory / "sysbench.log", "w+b")
        return subprocess.Popen(command, cwd=directory, stdout=log, stderr=log), log

    def analyze(self):
        """Gathers the optimizer's statistics of all tables."""
        command = ["mariadb-check", "--no-defaults", f"--socket={self.socket}", "--user=root", "--analyze", DATABASE]
        self._run(command, self.directory / "analyze.log")

    def dump(self, *arguments):
        """A logical backup of the database, thrown away."""
        command = ["mariadb-dump", "--no-defaults", f"--socket={self.socket}", "--user=root", *arguments, DATABASE]
        self._run(command, self.directory / "dump.log", stdout=subprocess.DEVNULL)

    def _run(self, command, log_path, stdout=None, stdin=None):
        with open(log_path, "w+b") as log:
            done = subprocess.run(command, stdin=stdin, stdout=stdout if stdout is not None else log, stderr=log)
            if done.returncode:
                raise ServerError(f"{command[0]}: {log_path.read_text(errors='replace')[-2000:]}")

    def _answers(self):
        if self.process.poll() is not None:
            raise ServerError("the server ended at its start" + self.last_words())
        command = ["mariadb-admin", "--no-defaults", f"--socket={self.socket}", "--user=root", "ping"]
        return subprocess.run(command, capture_output=True).returncode == 0 and self.pid_file.exists()

    def last_words(self):
        words = ""
        for name in ("error.log", "out.log"):
            path = self.directory / name
            if path.exists():
                words += "\n" + path.read_text(errors="replace")[-1500:]
        return words


def finish(started):
    """Waits for a sysbench and raises what it said when it failed."""
    process, log = started
    failed = process.wait(timeout=5 * WAIT_S)
    log.seek(0)
    said = log.read().decode(errors="replace")
    log.close()
    if failed or "FATAL" in said:
        raise ServerError(f"sysbench failed:\n{said[-2000:]}")
