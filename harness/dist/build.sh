#!/usr/bin/env bash
# Makes a tarball and a Debian package of fragbench in target/dist: programs and libraries linked for glibc 2.28 and newer, the
# shipped traces, manual pages, completions for bash, zsh and fish, licences. Neither needs the checkout.
#
# Needs python3 with venv, objdump and dpkg-deb. cargo-zigbuild and zig are taken from PATH, or put into target/zigbuild.
# It fails when a file asks for a newer symbol.
set -euo pipefail
cd "$(dirname "$0")/../.."

oldest=2.28
target=${CARGO_TARGET_DIR:-target}
arch=$(uname -m)
version=$(cargo metadata --no-deps --format-version 1 --locked |
    python3 -c 'import json, sys; print(next(p["version"] for p in json.load(sys.stdin)["packages"] if p["name"] == "fragbench-cli"))')

if ! command -v cargo-zigbuild >/dev/null; then
    tools=$target/zigbuild
    [ -x "$tools/bin/cargo-zigbuild" ] || {
        python3 -m venv "$tools"
        "$tools/bin/pip" install --quiet cargo-zigbuild==0.24.0 ziglang==0.17.1
    }
    PATH=$(cd "$tools/bin" && pwd):$PATH
fi
libraries="recorder jemalloc mimalloc null trim"
export CARGO_PROFILE_RELEASE_STRIP=debuginfo
FRAGBENCH_REVISION=$(git rev-parse HEAD 2>/dev/null || true)
export FRAGBENCH_REVISION
# One build a package: together their dependencies would share features, and the worker would have the command's.
cargo zigbuild --release --locked --target "$arch-unknown-linux-gnu.$oldest" -p fragbench-worker \
    $(cargo metadata --no-deps --format-version 1 --locked | python3 -c '
import json, sys
wanted = {"fragbench_" + name for name in sys.argv[1:]}
for package in json.load(sys.stdin)["packages"]:
    if any(target["name"] in wanted and "cdylib" in target["kind"] for target in package["targets"]):
        print("-p", package["name"])' $libraries)
cargo zigbuild --release --locked --target "$arch-unknown-linux-gnu.$oldest" -p fragbench-cli --features dist
built=$target/$arch-unknown-linux-gnu/release

root=$target/dist/fragbench-$version-$arch
rm -rf "$root" "$root.tar.gz" "$target/dist/deb"
mkdir -p "$root"/{bin,lib/fragbench,share/fragbench/traces,share/man/man1,share/doc/fragbench}
install -m 755 "$built/fragbench" "$root/bin"
install -m 755 "$built/fragbench-worker" "$root/lib/fragbench"
for name in $libraries; do
    install -m 644 "$built/libfragbench_$name.so" "$root/lib/fragbench"
done
install -m 644 workloads/replay/traces/*.fbt "$root/share/fragbench/traces"
install -m 644 README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE "$root/share/doc/fragbench"
mkdir -p "$root"/share/{bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d}
"$root/bin/fragbench" generate man "$root/share/man/man1"
"$root/bin/fragbench" generate bash >"$root/share/bash-completion/completions/fragbench"
"$root/bin/fragbench" generate zsh >"$root/share/zsh/vendor-completions/_fragbench"
"$root/bin/fragbench" generate fish >"$root/share/fish/vendor_completions.d/fragbench.fish"
gzip -9n "$root"/share/man/man1/*.1

for file in "$root"/bin/* "$root"/lib/fragbench/*; do
    newest=$(objdump -T "$file" | grep -o 'GLIBC_[0-9.]*' | cut -d _ -f 2 | sort -V | tail -n 1)
    if [ "$(printf '%s\n' "$newest" "$oldest" | sort -V | tail -n 1)" != "$oldest" ]; then
        echo "$file asks for symbols of glibc $newest, newer than $oldest:" >&2
        objdump -T "$file" | grep -F "GLIBC_$newest" >&2
        exit 1
    fi
done
tar -C "$target/dist" --owner 0 --group 0 --sort name -czf "$root.tar.gz" "$(basename "$root")"

deb=$target/dist/deb
mkdir -p "$deb/DEBIAN" "$deb/usr"
cp -r "$root"/* "$deb/usr"
cat >"$deb/DEBIAN/control" <<CONTROL
Package: fragbench
Version: $version
Architecture: $(dpkg --print-architecture)
Maintainer: fragbench developers <fragbench@localhost>
Section: devel
Priority: optional
Depends: libc6 (>= $oldest)
Recommends: gdb
Suggests: linux-perf, strace
Description: what holds a server's memory, and what lets go of it
 Inspects a glibc heap from outside, compares allocators and their settings
 on recorded and modelled work, reproduces bad cases of glibc malloc.
CONTROL
package=$target/dist/fragbench_${version}_$(dpkg --print-architecture).deb
dpkg-deb --root-owner-group --build "$deb" "$package" >/dev/null
ls -l "$root.tar.gz" "$package"
