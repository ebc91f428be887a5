"""The servers that option files, loads and models are compared with: the machine's MariaDB, and those that
fetch_servers.sh unpacked, started by their own loader so that they need none of the machine's libraries.
"""

import pathlib
import re
import resource
import shutil
import subprocess

# Which program of a fetched directory is the server, by the family's name.
PROGRAMS = {"mysql": "mysqld", "mariadb": "mariadbd"}
# Descriptors bound max_connections and table_open_cache: as many as a test machine has, on every server alike.
DESCRIPTORS = 20000


class NoServer(Exception):
    """A server that is not there, with what brings it."""


def fetched(root, name):
    """How to start a program of the fetched server NAME: the command's first words."""
    home = pathlib.Path(root).resolve() / name
    loader = home / "usr/lib64/ld-linux-x86-64.so.2"
    if not loader.exists():
        raise NoServer(f"{loader} not found: harness/validate/fetch_servers.sh {root} {name}")
    libraries = f"{home}/usr/lib/x86_64-linux-gnu:{home}/usr/lib/mysql/private"
    return home, [str(loader), "--library-path", libraries]


def command(root, name):
    """The words that start the server NAME, before its options. `mariadb-10.11` is the machine's own."""
    if name == "mariadb-10.11":
        program = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin")
        if program is None:
            raise NoServer("mariadbd not found: apt install mariadb-server")
        return [program]
    home, start = fetched(root, name)
    return [*start, str(home / "usr/sbin" / PROGRAMS[name.split("-")[0]])]


def bound_descriptors():
    """In a child before exec."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limit = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def help_of(start, arguments=("--no-defaults",), cwd=None):
    """What `--help --verbose` prints: exit status, values by name (with underscores), standard error."""
    run = subprocess.run(
        [*start, *arguments, "--verbose", "--help"],
        capture_output=True,
        cwd=cwd,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        preexec_fn=bound_descriptors,
        timeout=60,
    )
    text = run.stdout.decode(errors="replace")
    return run.returncode, values(text), run.stderr.decode(errors="replace")


def values(text):
    """The table of values at the end of a server's help; None when the server did not come to print it."""
    rule = text.rfind("\n-----")
    if rule < 0:
        return None
    table = {}
    for line in text[rule + 1 :].split("\n")[1:]:
        if not line.strip():
            break
        name, _, value = line.partition(" ")
        table[name.replace("-", "_")] = value.strip()
    return table


def option_names(start):
    """Every option the server describes, and of those the ones that turn a plugin on or off."""
    run = subprocess.run([*start, "--no-defaults", "--verbose", "--help"], capture_output=True)
    text = run.stdout.decode(errors="replace")
    found = re.findall(r"^  (?:-., )?--([A-Za-z0-9][\w.-]*)(.*(?:\n {8,}.*)*)", text, re.M)
    names = {name.replace("-", "_"): " ".join(what.split()) for name, what in found}
    return set(names), {name for name, what in names.items() if re.search(r"Enable or disable \S+ plugin", what)}
