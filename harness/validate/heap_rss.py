#!/usr/bin/env python3
"""Samples how much of another process's memory is glibc's heap, from outside: heap_rss.py PID FILE.csv [HZ]

Resident anonymous memory of the process is split into what malloc manages and the rest, so that it can be compared
with a process that only replays the malloc calls:

  main      [heap], the main arena
  arenas    heaps of thread arenas: 64 MiB-aligned, begun by a heap_info that agrees with the mapping
  chunks    blocks malloc mapped one by one: pages begun by a chunk header with the IS_MMAPPED bit, wherever in a
            mapping they are, since the kernel merges neighbours
  the rest  stacks, buffer pool, written data of libraries, the recorder's buffers: not counted

Ends when the process does. A sample during which the process changed its mappings may misplace a few pages; it is
not corrected. Needs the right to read the process's memory (same user, or root). Refuses other C libraries' heaps.

Sources: glibc 2.36 malloc/arena.c (heap_info, HEAP_MAX_SIZE), malloc/malloc.c (chunk header, IS_MMAPPED; 2.43,
mmap_set_chunk);
kernel Documentation/admin-guide/mm/pagemap.rst.
"""

import os
import re
import struct
import sys
import time

HEAP_MAX_SIZE = 64 << 20
PAGE = os.sysconf("SC_PAGESIZE")
VMA = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)\n(?:[A-Z].*\n)*?Anonymous: +(\d+) kB", re.MULTILINE
)


class Memory:
    def __init__(self, pid):
        self.mem = open(f"/proc/{pid}/mem", "rb", buffering=0)
        self.pagemap = open(f"/proc/{pid}/pagemap", "rb", buffering=0)

    def close(self):
        self.mem.close()
        self.pagemap.close()

    def words(self, address, count):
        try:
            return struct.unpack(f"<{count}Q", os.pread(self.mem.fileno(), 8 * count, address))
        except (OSError, struct.error):
            return None

    def present(self, start, end):
        """Addresses of a range's resident anonymous pages: present (bit 63) and not of a file or shared (bit 61)."""
        data = os.pread(self.pagemap.fileno(), (end - start) // PAGE * 8, start // PAGE * 8)
        entries = struct.unpack(f"<{len(data) // 8}Q", data)
        return [start + i * PAGE for i, entry in enumerate(entries) if entry >> 61 & 5 == 4]

    def anonymous(self, start, end):
        """Resident anonymous bytes of a range."""
        return PAGE * len(self.present(start, end))


def arena_extent(memory, start, end):
    """Bytes from `start` that are a thread arena's heap, and whether it is the arena's first; (0, False) if none."""
    info = memory.words(start, 4)  # ar_ptr, prev, size, mprotect_size
    if not info:
        return 0, False
    arena, previous, size, writable = info
    sound = arena > PAGE and size % PAGE == 0 and 0 < size <= writable <= HEAP_MAX_SIZE and previous % HEAP_MAX_SIZE == 0
    # Between the reading of the mappings and this one the heap may have grown.
    return (min(writable, end - start), previous == 0) if sound else (0, False)


def chunks_extent(memory, start, end):
    """Bytes from `start` that are chunks malloc mapped one by one."""
    at = start
    while at < end:
        header = memory.words(at, 2)  # padding before an aligned block, size and flags
        if not header:
            break
        size = header[1] & ~7
        size += -size % PAGE if size % PAGE == PAGE - 16 else 0  # since glibc 2.43 the chunk ends 16 bytes before its mapping
        if header[1] & 7 != 2 or size % PAGE or not 0 < size <= end - at or header[0] >= PAGE:
            break
        at += size
    return at - start


def foreign_extent(memory, start, end):
    """Bytes from `start`, where no chunk begins, to the next that does."""
    for page in memory.present(start, end):
        if chunks_extent(memory, page, end):
            return page - start
    return end - start


def split(memory, smaps, foreign):
    """Resident anonymous bytes of main heap, arenas, and mapped chunks, and the number of arenas besides the main one.

    `foreign` remembers from sample to sample where memory that is not malloc's begins and how long it is."""
    main = arenas = chunks = count = 0
    known = {}
    for start, end, rights, name, kib in VMA.findall(smaps):
        resident = int(kib) << 10
        if name == b"[heap]":
            main += resident
        if name or not rights.startswith(b"rw") or not resident:
            continue
        start, end = int(start, 16), int(end, 16)
        at = start
        while at < end:
            extent, first = arena_extent(memory, at, end) if at % HEAP_MAX_SIZE == 0 else (0, False)
            mapped = 0 if extent else chunks_extent(memory, at, end)
            if not extent and not mapped:
                if at + foreign.get(at, end) > end:
                    foreign[at] = foreign_extent(memory, at, end)
                known[at] = foreign[at]
                at += known[at]
                continue
            whole = at == start and at + extent + mapped == end
            inside = resident if whole else memory.anonymous(at, at + extent + mapped)
            arenas += inside if extent else 0
            chunks += inside if mapped else 0
            count += first
            at += extent + mapped
    foreign.clear()
    foreign.update(known)
    return main, arenas, chunks, count


def main():
    pid, path = int(sys.argv[1]), sys.argv[2]
    interval = 1 / float(sys.argv[3]) if len(sys.argv) > 3 else 0.05
    memory = Memory(pid)
    foreign = {}
    begin = time.monotonic()
    with open(path, "w", encoding="ascii") as out:
        print("at_ms,rss_bytes,anon_bytes,heap_rss_bytes,main_bytes,arenas_bytes,chunks_bytes,arenas,threads", file=out)
        while True:
            at = time.monotonic()
            try:
                with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
                    fields = dict(line.split(":", 1) for line in status)
                with open(f"/proc/{pid}/smaps", "rb") as smaps:
                    heap = split(memory, smaps.read(), foreign)
                kib = lambda field: int(fields[field].split()[0]) << 10
                row = [kib("VmRSS"), kib("RssAnon"), sum(heap[:3]), *heap, int(fields["Threads"])]
            except (OSError, KeyError):
                return  # it has ended: a zombie has no memory lines
            print(round((at - begin) * 1000), *row, sep=",", file=out, flush=True)
            time.sleep(max(0, at + interval - time.monotonic()))


if __name__ == "__main__":
    main()
