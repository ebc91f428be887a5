"""A private MariaDB server after a connection storm: prints its process id and waits until its input closes.

Refuses to run without Debian's mariadb-server and mariadb-client; servers of the system are neither used nor touched.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "validate"))
import server  # noqa: E402

CONNECTIONS = 96
# Variables of a session live in the heap as long as it does; of all connections at once they interleave.
STATEMENTS = "".join(f"SET @v{n} = REPEAT('x', {700 * n + 500});\n" for n in range(60))


def storm(mariadb, waves):
    """Waves of clients that are all connected at once."""
    for _ in range(waves):
        command = ["mariadb", "--no-defaults", f"--socket={mariadb.socket}", "--user=root", "--batch", server.DATABASE]
        clients = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(CONNECTIONS)
        ]
        for client in clients:
            client.stdin.write(STATEMENTS.encode())
            client.stdin.flush()
        for client in clients:
            client.stdin.close()
            if client.wait(timeout=server.WAIT_S):
                raise server.ServerError("a client failed")


def quiet(mariadb):
    """Waits until all connections' threads have ended but for the cached ones, and every other one waits."""
    session = mariadb.session()

    def rests():
        cached = session.ask("SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME='THREADS_CONNECTED'")
        return cached == "1"

    server.wait_until(rests, "quiet server")
    session.close()


def main():
    server.require("mariadbd", "mariadb-install-db", "mariadb")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="fragbench-stormed-"))
    mariadb = server.Server(directory / "server", {})
    try:
        mariadb.start()
        mariadb.execute(f"CREATE DATABASE `{server.DATABASE}`")
        storm(mariadb, waves=2)
        quiet(mariadb)
        print(mariadb.pid, flush=True)
        sys.stdin.read()
    finally:
        mariadb.discard()
        shutil.rmtree(directory)


main()
