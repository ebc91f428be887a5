#!/usr/bin/env bash
# Unpacks glibc as Debian ships it, one directory a version, for `fragbench run --glibc DIR`. No root: apt works on
# state of its own below DIR, the system's lists, cache and packages stay as they are. Every package is verified by apt
# (signed release, hashes) before it is unpacked; nothing of it is run here.
#
# usage: harness/glibc/fetch.sh DIR [SUITE[=VERSION]...]
#   default: bullseye (2.31) bookworm (2.36) trixie (2.41) sid (2.43 or newer: sid moves) experimental (2.44 or newer)
#   A suite is taken as it is now. What was found is printed and kept in DIR/VERSION/PACKAGE; `sid=2.43-7` asks for
#   exactly that one and fails when the suite has moved on.
# DEBIAN_MIRROR names the mirror; left out, it is the one this machine's apt is set up for.
set -euo pipefail

[ $# -ge 1 ] || { sed -n '/^# usage/,/^# DEBIAN/p' "$0" >&2; exit 2; }
dir=$(mkdir -p "$1" && cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- bullseye bookworm trixie sid experimental

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$keyring" ] || { echo "$keyring is missing: install debian-archive-keyring" >&2; exit 1; }
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(ORIGIN)/$(LABEL) $(REPO_URI)' 'Created-By: Packages' |
    sed -n 's,^Debian/Debian ,,p' | head -n 1)}
[ -n "$mirror" ] || { echo "apt here knows no Debian mirror (after apt-get update): set DEBIAN_MIRROR" >&2; exit 1; }
arch=$(dpkg --print-architecture)

for wanted in "$@"; do
    suite=${wanted%%=*}
    pin=${wanted#"$suite"}
    state=$dir/.apt/$suite
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$state/download"
    echo "deb [arch=$arch signed-by=$keyring] $mirror $suite main" >"$state/sources.list"
    own_apt() {
        apt-get -qq -o Dir::Etc::SourceList="$state/sources.list" -o Dir::Etc::SourceParts=/dev/null \
            -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
            -o Dir::State="$state" -o Dir::State::Lists="$state/lists" -o Dir::State::status=/dev/null \
            -o Dir::Cache="$state/cache" -o APT::Architecture="$arch" -o APT::Architectures="$arch" \
            -o Acquire::Languages=none -o APT::Sandbox::User="$(id -un)" "$@"
    }
    own_apt update
    rm -f "$state"/download/*.deb
    (cd "$state/download" && own_apt download "libc6$pin")
    package=("$state"/download/libc6_*.deb)
    full=$(dpkg-deb -f "${package[0]}" Version)
    version=${full%%-*}
    rm -rf "${dir:?}/$version"
    dpkg-deb -x "${package[0]}" "$dir/$version"
    echo "libc6 $full $arch from $suite, sha256 $(sha256sum <"${package[0]}" | cut -d ' ' -f 1)" |
        tee "$dir/$version/PACKAGE"
done
