#!/usr/bin/env bash
# Builds fragbench-worker for every glibc from 2.17 on, into target/ARCH-unknown-linux-gnu/release/, where
# `fragbench run --glibc DIR` looks for it. A program asks for the symbol versions of the glibc it was linked against; zig
# links against those of any version and brings its own unwinder, so that libgcc_s is not needed either.
#
# Needs python3 with venv, and objdump. cargo-zigbuild and zig are taken from PATH, or put into target/zigbuild.
# It fails when the worker asks for a newer symbol.
set -euo pipefail
cd "$(dirname "$0")/../.."

oldest=2.17
target=${CARGO_TARGET_DIR:-target}
triple=$(uname -m)-unknown-linux-gnu

if ! command -v cargo-zigbuild >/dev/null; then
    tools=$target/zigbuild
    [ -x "$tools/bin/cargo-zigbuild" ] || {
        python3 -m venv "$tools"
        "$tools/bin/pip" install --quiet cargo-zigbuild==0.24.0 ziglang==0.17.1
    }
    PATH=$(cd "$tools/bin" && pwd):$PATH
fi
cargo zigbuild --release --locked --target "$triple.$oldest" -p fragbench-worker

worker=$target/$triple/release/fragbench-worker
newest=$(objdump -T "$worker" | grep -o 'GLIBC_[0-9.]*' | cut -d _ -f 2 | sort -V | tail -n 1)
if [ "$(printf '%s\n' "$newest" "$oldest" | sort -V | tail -n 1)" != "$oldest" ]; then
    echo "$worker asks for symbols of glibc $newest, newer than $oldest:" >&2
    objdump -T "$worker" | grep -F "GLIBC_$newest" >&2
    exit 1
fi
echo "$worker asks for no symbol newer than glibc $newest"
