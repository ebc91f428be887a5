#!/usr/bin/env bash
# A colon at the end of GLIBC_TUNABLES is harmless in glibc 2.36 and makes glibc 2.41 ignore every tunable of the list.
#
# One would expect: at worst the malformed part is dropped, as a misspelt name or an invalid value are, in both versions.
# Seen (libc6 2.36 of Debian 12, 2.41 of Debian 13): glibc.malloc.mmap_threshold=16384: holds in 2.36; in 2.41 the loader warns and nothing
# holds. A part without "=" does the same. A name that no tunable has (glibc.malloc.nosuch=3) is passed over silently in both.
# Scripts that build the list by appending "name=value:" lose all their settings with the upgrade.
# Source: elf/dl-tunables.c of both versions (in 2.41 an error of form discards the whole).
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
one=glibc.malloc.mmap_threshold=16384
expect "2.36, $one:" "$(where bookworm $one:)" mapped
expect "2.41, $one" "$(where trixie $one)" mapped
expect "2.41, $one:" "$(where trixie $one:)" heap
expect "2.41, $one:glibc.malloc.nosuch=3" "$(where trixie $one:glibc.malloc.nosuch=3)" mapped
exit $status
