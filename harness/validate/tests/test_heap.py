"""The server's heap from outside: where zeroed data lies, and the shim on a real program of known memory."""

import os
import pathlib
import shutil
import signal
import struct
import subprocess
import tempfile
import unittest

import heap
from heap_rss import PAGE

HERE = pathlib.Path(__file__).resolve().parents[1]

# Touches 8 MiB of malloc's, 16 MiB that the program maps, and 4 MiB of a thread's stack, and says when.
PROGRAM = r"""
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
static char zeroed[2 << 20];
static void *deep(void *unused) {
  volatile char on_stack[4 << 20];
  for (size_t i = 0; i < sizeof on_stack; i += 512) on_stack[i] = 1;
  puts("ready");
  fflush(stdout);
  pause();
  return unused;
}
int main(void) {
  memset(zeroed, 1, sizeof zeroed);
  memset(malloc(8 << 20), 1, 8 << 20);
  memset(mmap(NULL, 16 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 1, 16 << 20);
  pthread_t thread;
  pthread_create(&thread, NULL, deep, NULL);
  pthread_join(thread, NULL);
}
"""


class ZeroedData(unittest.TestCase):
    def test_lies_after_what_the_file_holds(self):
        load = lambda vaddr, filesz, memsz: struct.pack("<IIQQQQQQ", 1, 6, 0, vaddr, vaddr, filesz, memsz, PAGE)
        table = load(0, PAGE, PAGE) + load(0x3000, 0x10, 0x5010)
        header = bytearray(64)
        header[:5] = b"\x7fELF\x02"
        struct.pack_into("<Q", header, 32, 64)
        struct.pack_into("<HH", header, 54, 56, 2)
        read = lambda at, length: table[at - 64 : at - 64 + length]
        self.assertEqual(heap.zeroed_data(bytes(header), read, 0x7F0000000000), [(0x7F0000004000, 0x7F0000009000)])
        self.assertEqual(heap.zeroed_data(b"#!/bin/sh".ljust(64), read, 0), [])


@unittest.skipUnless(shutil.which("cc") or os.environ.get("FRAGBENCH_NO_SKIP"), "no C compiler")
class Shim(unittest.TestCase):
    def test_only_what_malloc_manages_is_counted(self):
        with tempfile.TemporaryDirectory() as scratch:
            scratch = pathlib.Path(scratch)
            (scratch / "program.c").write_text(PROGRAM)
            shim, program = scratch / "shim.so", scratch / "program"
            subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", shim, HERE / "server_shim.c"], check=True)
            subprocess.run(["cc", "-O1", "-pthread", "-o", program, scratch / "program.c"], check=True)
            environment = {"LD_PRELOAD": str(shim), "PATH": os.environ["PATH"]}
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            with subprocess.Popen([program], env=environment, **pipes) as running:
                try:
                    self.assertEqual(running.stdout.readline(), b"ready\n")
                    counted = heap.rss_anon(running.pid) - heap.not_heap(running.pid)
                    self.assertGreaterEqual(counted, 8 << 20)
                    self.assertLess(counted, 9 << 20)
                    os.kill(running.pid, signal.SIGRTMIN + 5)
                    self.assertEqual(running.stderr.readline(), b"purged by malloc_trim\n")
                finally:
                    running.kill()


if __name__ == "__main__":
    unittest.main()
