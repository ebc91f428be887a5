#!/usr/bin/env bash
# Unpacks MySQL and MariaDB servers as Debian ships them, each with the C library and all others it was built for, one
# directory a server; its programs are started by its own loader (servers.py). No root: apt works on state of its own below
# DIR, the system's lists, cache and packages stay as they are. Every package is verified by apt (signed release, hashes)
# before it is unpacked; no package's script is run.
#
# usage: harness/validate/fetch_servers.sh DIR [NAME...]
#   names: mysql-9.7 (sid), mariadb-11.8 (trixie); default: both. A suite is taken as it is now: what was found is
#   printed and kept in DIR/NAME/PACKAGES.
# DEBIAN_MIRROR names the mirror; left out, it is the one this machine's apt is set up for.
set -euo pipefail

[ $# -ge 1 ] || { sed -n '/^# usage/,/^# DEBIAN/p' "$0" >&2; exit 2; }
dir=$(mkdir -p "$1" && cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- mysql-9.7 mariadb-11.8

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$keyring" ] || { echo "$keyring is missing: install debian-archive-keyring" >&2; exit 1; }
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(ORIGIN)/$(LABEL) $(REPO_URI)' 'Created-By: Packages' |
    sed -n 's,^Debian/Debian ,,p' | head -n 1)}
[ -n "$mirror" ] || { echo "apt here knows no Debian mirror (after apt-get update): set DEBIAN_MIRROR" >&2; exit 1; }
arch=$(dpkg --print-architecture)

for name in "$@"; do
    # The server's version is the name's: a suite that has moved on is not taken for it.
    case $name in
        mysql-9.7) suite=sid packages="mysql-server-core mysql-client-core" ;;
        mariadb-11.8) suite=trixie packages="mariadb-server-core mariadb-client-core" ;;
        *) echo "no recipe for $name; there are mysql-9.7 and mariadb-11.8" >&2; exit 2 ;;
    esac
    state=$dir/.apt/$suite
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    echo "deb [arch=$arch signed-by=$keyring] $mirror $suite main" >"$state/sources.list"
    own_apt() {
        apt-get -qq -o Dir::Etc::SourceList="$state/sources.list" -o Dir::Etc::SourceParts=/dev/null \
            -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
            -o Dir::State="$state" -o Dir::State::Lists="$state/lists" -o Dir::State::status=/dev/null \
            -o Dir::Cache="$state/cache" -o APT::Architecture="$arch" -o APT::Architectures="$arch" \
            -o Acquire::Languages=none -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=true "$@"
    }
    own_apt update
    rm -f "$state"/cache/archives/*.deb
    # As on a machine with nothing installed: all they depend on comes too.
    # shellcheck disable=SC2086
    own_apt install --yes --download-only --no-install-recommends $packages
    rm -rf "${dir:?}/$name"
    mkdir -p "$dir/$name"
    for package in "$state"/cache/archives/*.deb; do
        dpkg-deb -x "$package" "$dir/$name"
        echo "$(dpkg-deb -f "$package" Package) $(dpkg-deb -f "$package" Version) $(sha256sum <"$package" | cut -d ' ' -f 1)"
    done >"$dir/$name/PACKAGES"
    version=$(sed -n "s/^${packages%% *} \([0-9]*:\)\?\([0-9]*\.[0-9]*\)\..*/\2/p" "$dir/$name/PACKAGES")
    [ "${name##*-}" = "$version" ] || { echo "$suite has ${packages%% *} $version now, not ${name##*-}" >&2; exit 1; }
    grep -E "^(${packages// /|}|libc6) " "$dir/$name/PACKAGES" | sed "s/^/$suite: /"
done
