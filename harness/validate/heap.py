"""A server's heap from outside, under any allocator: its RssAnon less what is neither malloc's nor shared.

With server_shim.c preloaded, stacks and the program's own mappings are shared memory. What is private and resident but
not malloc's is then: written pages of files (data of program and libraries), their zeroed data (bss), the first
thread's stack. These are read from smaps and subtracted; they change little once the server runs.

Sources: proc(5); kernel Documentation/filesystems/proc.rst (RssAnon, Anonymous); elf(5).
"""

import contextlib
import os
import re
import struct
import threading
import time

from heap_rss import PAGE, Memory

VMA = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) \S+ (\d+) *(.*)\n(?:[A-Z].*\n)*?Anonymous: +(\d+) kB", re.MULTILINE
)


def rss_anon(pid):
    """Resident anonymous bytes of a process."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) << 10
    raise ProcessLookupError(pid)  # a zombie has no such line


def zeroed_data(header, table, base):
    """Page ranges of an ELF file's segments beyond what the file holds, when it is mapped at `base`.

    `header` is the file's first 64 bytes, `table(offset, length)` reads more of it."""
    if header[:5] != b"\x7fELF\x02":
        return []
    (at,) = struct.unpack_from("<Q", header, 32)
    size, count = struct.unpack_from("<HH", header, 54)
    parts = [struct.unpack_from("<IIQQQQQQ", table(at + i * size, size)) for i in range(count)]
    loads = [(vaddr, filesz, memsz) for kind, _, _, vaddr, _, filesz, memsz, _ in parts if kind == 1]  # PT_LOAD
    if not loads:
        return []
    bias = base - loads[0][0] // PAGE * PAGE
    up = lambda address: -(-address // PAGE) * PAGE
    ranges = [(up(bias + vaddr + filesz), up(bias + vaddr + memsz)) for vaddr, filesz, memsz in loads]
    return [(start, end) for start, end in ranges if start < end]


def not_heap(pid, allocator=None):
    """Resident anonymous bytes that are not malloc's; `allocator`: a library whose own data is (tcmalloc keeps its books
    there)."""
    own = os.fsencode(os.path.realpath(allocator)) if allocator else None
    with open(f"/proc/{pid}/smaps", "rb") as smaps:
        mappings = VMA.findall(smaps.read())
    total, seen = 0, set()
    with contextlib.closing(Memory(pid)) as memory:
        for start, _, _, offset, inode, name, kib in mappings:
            if name == own:
                continue
            if inode != b"0" or name == b"[stack]":
                total += int(kib) << 10
            if inode == b"0" or name in seen or int(offset, 16):
                continue
            seen.add(name)
            try:
                with open(name, "rb") as file:
                    table = lambda at, length: os.pread(file.fileno(), length, at)
                    ranges = zeroed_data(table(0, 64), table, int(start, 16))
            except OSError:
                continue  # deleted or special: no bss of its own
            total += sum(memory.anonymous(*each) for each in ranges)
    return total


class Sampler:
    """Samples RssAnon on a thread of its own until told to stop."""

    def __init__(self, pid, hertz=20):
        self.pid, self.interval = pid, 1 / hertz
        self.samples = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._end.wait(self.interval):
            try:
                self.samples.append((time.monotonic_ns(), rss_anon(self.pid)))
            except (OSError, ProcessLookupError):
                return

    def stop(self):
        """The samples, as (CLOCK_MONOTONIC ns, bytes)."""
        self._end.set()
        self._thread.join()
        return self.samples
