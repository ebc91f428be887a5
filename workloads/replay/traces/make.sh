#!/bin/bash
# Records the traces beside this script from a real MariaDB server, with a file of its heap's resident memory each.
#
#   make.sh [oltp-read-write] [connection-storm] [blob-churn]        all three when none is named
#
# Debian 12: apt install mariadb-server sysbench python3; then `cargo build --release` in the workspace. The loads and
# the server are those of harness/validate; see its README.md.
#
# FRAGBENCH   the program (default: target/release/fragbench of this workspace)
# TRACE_DIR   where the traces go (default: beside this script)
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
loads=("$@")
[ ${#loads[@]} -gt 0 ] || loads=(oltp-read-write connection-storm blob-churn)

exec python3 "$here/../../../harness/validate/validate.py" --parts record --again --record-idle 3 \
    --recordings "${TRACE_DIR:-$here}" ${FRAGBENCH:+--fragbench "$FRAGBENCH"} --scenarios "$(IFS=,; echo "${loads[*]}")"
