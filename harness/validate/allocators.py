"""The allocators that the real server and the replays run under: the same library on both sides.

How long a load's end is left alone depends on the allocator: jemalloc and mimalloc give memory back as time passes
(decay of 10 s, delay of 1 s), so they are replayed at the recorded pace and left idle longer than that; glibc and
tcmalloc do nothing by time.
"""

import pathlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Allocator:
    """`choice`: what selects it on fragbench's command line; `proof`: what its purge in the server says."""

    name: str
    library: pathlib.Path | None
    environment: dict
    choice: list
    idle_s: float
    pace: str
    proof: str

    def preload(self, shim, installation):
        """The server's LD_PRELOAD. A server that is linked with an allocator, as Debian's MySQL is with tcmalloc, has its
        `malloc` and C++'s `operator new` of that one: the C library's own of both go before it, so that `operator new` is
        libstdc++'s and asks the `malloc` of the allocator under test."""
        before = []
        if self.name != "linked" and installation.home:
            library = None if self.library else installation.library("libc.so.6")
            before = [self.library, installation.library("libstdc++.so.6"), library]
        elif self.library:
            before = [self.library]
        return ":".join(str(path) for path in [shim, *before] if path)


TCMALLOC = pathlib.Path("/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4")


def linked(installation, tcmalloc):
    """What the server runs with when nothing is preloaded: tcmalloc in Debian's MySQL, else the C library's own."""
    library = installation.library("libtcmalloc.so.4") if installation and installation.flavor == "mysql" else None
    if library is None:
        return Allocator("linked", None, {}, ["--allocator", "glibc", "--arena-max", "default"], 2, "fast", "malloc_trim")
    # Replayed under the machine's tcmalloc: the server's own may need a newer C library than the worker's.
    return Allocator("linked", library, {}, tcmalloc.choice, 2, "fast", tcmalloc.proof)


def known(fragbench, tcmalloc=TCMALLOC, installation=None):
    """Every allocator by name; `fragbench`: the program, beside which its own libraries lie."""
    built = pathlib.Path(fragbench).resolve().parent

    def glibc(limit):
        name, environment = ("glibc", {}) if limit == "default" else (f"glibc-{limit}", {"MALLOC_ARENA_MAX": limit})
        choice = ["--allocator", "glibc", "--arena-max", limit]
        return Allocator(name, None, environment, choice, 2, "fast", "malloc_trim")

    def built_in(name, idle_s, proof):
        return Allocator(name, built / f"libfragbench_{name}.so", {}, ["--allocator", name], idle_s, "recorded", proof)

    other = Allocator("tcmalloc", tcmalloc, {}, ["--allocator", f"tcmalloc={tcmalloc}"], 2, "fast", "ReleaseFreeMemory")
    all_of_them = [glibc("default"), glibc("1"), glibc("2"), built_in("jemalloc", 12, "mallctl")]
    all_of_them += [built_in("mimalloc", 3, "mi_collect"), other, linked(installation, other)]
    return {allocator.name: allocator for allocator in all_of_them}
