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

    def preload(self, shim):
        """The server's LD_PRELOAD."""
        return ":".join(str(path) for path in [shim, self.library] if path)


TCMALLOC = pathlib.Path("/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4")


def known(fragbench, tcmalloc=TCMALLOC):
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
    all_of_them += [built_in("mimalloc", 3, "mi_collect"), other]
    return {allocator.name: allocator for allocator in all_of_them}
