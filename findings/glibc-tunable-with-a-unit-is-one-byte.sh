#!/usr/bin/env bash
# GLIBC_TUNABLES=glibc.malloc.mmap_threshold=1M sets a threshold of ONE BYTE in glibc 2.36; glibc 2.41 ignores it and warns.
#
# One would expect: 1 MiB, or the value refused, and the same in both.
# Seen (libc6 2.36 of Debian 12, 2.41 of Debian 13): in 2.36 blocks of 20000 bytes are each mapped (the digits before the M are the
# value), without a word; in 2.41 they are in the heap and the loader warns of an invalid value. "x" is 0 in 2.36.
# Source: elf/dl-tunables.c of 2.36 (_dl_strtoul without a look at where it stopped); 2.41 checks where the number ended;
# the manual, section Tunables, says nothing of units.
#
# Needs gcc.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
# shellcheck disable=SC2016
mirror=$(apt-get indextargets --format '$(ORIGIN)/$(LABEL) $(REPO_URI)' 'Created-By: Packages' | sed -n 's,^Debian/Debian ,,p' | head -n 1)

# glibc of a suite by version and SHA-256, unpacked below $dir/SUITE.
glibc() {
    local state=$dir/apt-$1 file
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    echo "deb [signed-by=$keyring] $mirror $1 main" >"$state/sources.list"
    local options=(-qq -o Dir::Etc::SourceList="$state/sources.list" -o Dir::Etc::SourceParts=/dev/null -o Dir::State="$state"
        -o Dir::State::Lists="$state/lists" -o Dir::State::status=/dev/null -o Dir::Cache="$state/cache" -o Acquire::Languages=none
        -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=true)
    apt-get "${options[@]}" update
    (cd "$state" && apt-get "${options[@]}" download "libc6=$2")
    file=$(find "$state" -name 'libc6_*.deb')
    echo "$3  $file" | sha256sum --check --quiet
    dpkg-deb -x "$file" "$dir/$1"
}
glibc bookworm 2.36-9+deb12u14 ba4f88f73dbc3ae9055f3c20f4523bfdbaf1ad13ff95e258924f77d20b4fbedf
glibc trixie 2.41-12+deb13u5 b59b0625cd1a791375d40dab23a4d5d3d0641e3d0a773501becdc3725b7f99cf
cat >"$dir/probe.c" <<'C'
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
void *volatile kept[100];
int main(void) {
  for (int i = 0; i < 100; i++) kept[i] = malloc(20000);
  puts(mallinfo2().hblks > 50 ? "mapped" : "heap");
  return 0;
}
C
gcc -w -O0 -o "$dir/probe" "$dir/probe.c"
# Where blocks of 20000 bytes go with a glibc and a value of GLIBC_TUNABLES; what the loader says goes to stderr and is shown.
where() {
    local lib
    lib=$(dirname "$(find "$dir/$1" -name libc.so.6 -print -quit)")
    GLIBC_TUNABLES=$2 "$lib/ld-linux-x86-64.so.2" --library-path "$lib" "$dir/probe"
}
status=0
expect() {
    echo "$1: $2"
    [ "$2" = "$3" ] || { echo "expected $3" >&2; status=1; }
}
expect "2.36, 1048576" "$(where bookworm glibc.malloc.mmap_threshold=1048576)" heap
expect "2.36, 1M" "$(where bookworm glibc.malloc.mmap_threshold=1M)" mapped
expect "2.41, 1M" "$(where trixie glibc.malloc.mmap_threshold=1M)" heap
exit $status
