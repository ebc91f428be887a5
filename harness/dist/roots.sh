#!/usr/bin/env bash
# Installs the package that build.sh made into bare roots of Debian's suites and uses it there: as a user without a home,
# no checkout within reach. Root, debootstrap and Debian's keyring are needed; nothing of the system outside DIR changes.
#
# usage: harness/dist/roots.sh PACKAGE.deb DIR [SUITE...]     default: bullseye bookworm trixie sid
# DEBIAN_MIRROR names the mirror; left out, it is the one this machine's apt is set up for.
set -euo pipefail

[ $# -ge 2 ] || { sed -n '/^# usage/,/^# DEBIAN/p' "$0" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "roots are made by root alone: sudo $0 $*" >&2; exit 1; }
package=$(realpath "$1")
mkdir -p "$2"
dir=$(cd "$2" && pwd)
shift 2
[ $# -gt 0 ] || set -- bullseye bookworm trixie sid
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(ORIGIN)/$(LABEL) $(REPO_URI)' 'Created-By: Packages' |
    sed -n 's,^Debian/Debian ,,p' | head -n 1)}
[ -n "$mirror" ] || { echo "apt here knows no Debian mirror (after apt-get update): set DEBIAN_MIRROR" >&2; exit 1; }

for suite in "$@"; do
    root=$dir/$suite
    [ -e "$root/etc/debian_version" ] || debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$dir/$suite.log"
    mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
    trap 'umount "$root/proc"' EXIT
    cp "$package" "$root/tmp/fragbench.deb"
    chroot "$root" dpkg --install /tmp/fragbench.deb >/dev/null
    # A user without a home, and a process of the same user's to look at.
    chroot "$root" setpriv --reuid 65534 --regid 65534 --clear-groups env -i PATH=/usr/bin:/bin sh -euc '
        cd /
        fragbench --version --verbose
        fragbench run mysql/oltp-read-write --reps 1 --idle 1ms --scale 0.05 -o /tmp/result >/tmp/table
        grep -q jemalloc /tmp/table
        fragbench report /tmp/result >/dev/null
        fragbench record -o /tmp/t.fbt -- ls / >/dev/null
        fragbench replay /tmp/t.fbt --allocator glibc,jemalloc --reps 1 --idle 1ms -o /tmp/replayed >/dev/null
        sleep 1000 & pid=$!
        fragbench inspect $pid | head -n 3
        kill $pid
    '
    echo "$suite: $(chroot "$root" dpkg-query -W -f '${Version}' libc6): used"
    umount "$root/proc"
    trap - EXIT
done
