#!/usr/bin/env bash
# With gperftools' tcmalloc preloaded mallinfo tells of tcmalloc's heap, mallinfo2 in the same process of glibc's empty one.
#
# One would expect: both the same, mallinfo2 being mallinfo with wider fields.
# Seen (libtcmalloc-minimal4 2.10 of Debian 12, glibc 2.36): after 1000 blocks of 10000 bytes mallinfo().uordblks is some 10 MB,
# mallinfo2().uordblks 0. A program that moved to mallinfo2, as the manual page advises, measures nothing and gets no error.
# malloc_trim is glibc's as well: it gives 0 and releases nothing.
# Source: src/libc_override*.h and src/tcmalloc.cc of gperftools 2.10 define mallinfo and mallopt, but neither mallinfo2 nor malloc_trim;
# the dynamic linker takes what is missing from libc.
#
# Needs gcc and glibc 2.33 or later.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# Fetches a package of Debian 12 by name, version and SHA-256, and unpacks it below $dir/root.
deb() {
    local file
    mkdir "$dir/$1"
    (cd "$dir/$1" && apt-get -qq -o APT::Sandbox::User="$(id -un)" download "$1=$2")
    file=$(find "$dir/$1" -name '*.deb')
    echo "$3  $file" | sha256sum --check --quiet
    dpkg-deb -x "$file" "$dir/root"
}
deb libtcmalloc-minimal4 2.10-1 464aa2e804b0d48300ad71edfe525599deed8765db4af7a8d9de60326dc8e4c7
cat >"$dir/probe.c" <<'C'
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
void *volatile kept[1000];
int main(void) {
  for (int i = 0; i < 1000; i++) kept[i] = malloc(10000);
  size_t narrow = mallinfo().uordblks, wide = mallinfo2().uordblks;
  int trimmed = malloc_trim(0);
  printf("in use by mallinfo %zu, by mallinfo2 %zu; malloc_trim gives %d\n", narrow, wide, trimmed);
  return !(narrow >= 10000000 && wide == 0 && trimmed == 0);
}
C
gcc -w -O0 -o "$dir/probe" "$dir/probe.c"
LD_PRELOAD=$dir/root/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4 "$dir/probe"
