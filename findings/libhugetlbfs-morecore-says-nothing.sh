#!/usr/bin/env bash
# libhugetlbfs preloaded with HUGETLB_MORECORE does nothing on glibc 2.34 and later, and does not say so.
#
# One would expect: a warning, since the hook it works by (__morecore) is gone, or huge pages.
# Seen (libhugetlbfs0 2.23 on glibc 2.36, both of Debian 12): HUGETLB_MORECORE=yes and =thp print nothing at the default verbosity, and
# the heap stays where it was. Only HUGETLB_VERBOSE=99 tells that morecore is not available.
# Source: NEWS of glibc 2.34 (__morecore removed; glibc.malloc.hugetlb since 2.35); morecore.c of libhugetlbfs 2.23 (an INFO line);
# libhugetlbfs(7), which promises the heap on huge pages.
#
# Needs glibc 2.34 or later and huge pages known to the kernel.
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
deb libhugetlbfs0 2.23-5 bd0aa5b8c583a24133ad0b7a7622811b1d87e953450dcc08d2130102ed1c8285
run() { LD_PRELOAD=$dir/root/usr/lib/x86_64-linux-gnu/libhugetlbfs.so.0 "$@" 2>&1; }
for mode in yes thp; do
    said=$(HUGETLB_MORECORE=$mode run /bin/true)
    echo "HUGETLB_MORECORE=$mode says: '$said'"
    [ -z "$said" ]
done
HUGETLB_MORECORE=thp HUGETLB_VERBOSE=99 run /bin/true | grep -o 'Not setting up morecore because.*'
