#!/bin/bash
# Records the traces beside this script from a real MariaDB or MySQL server, with a file of its heap's resident memory each.
#
#   make.sh [oltp-read-write] [connection-storm] [blob-churn]        all three when none is named
#   make.sh mysql-oltp-read-write mysql-connection-storm              of MySQL 9.7
#
# Debian 12: apt install mariadb-server sysbench python3; then `cargo build --release` in the workspace. The loads and
# the server are those of harness/validate; see its README.md.
#
# FRAGBENCH   the program (default: target/release/fragbench of this workspace)
# SERVERS     where harness/validate/fetch_servers.sh unpacked MySQL (default: target/servers)
# TRACE_DIR   where the traces go (default: beside this script)
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
loads=("$@")
[ ${#loads[@]} -gt 0 ] || loads=(oltp-read-write connection-storm blob-churn)

out=$(mkdir -p "${TRACE_DIR:-$here}" && cd "${TRACE_DIR:-$here}" && pwd)
scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT
for load in "${loads[@]}"; do
    server=mariadb-10.11 scenario=$load
    case $load in
        # 66 transactions a session make a trace that is too large.
        mysql-oltp-read-write) server=mysql-9.7 scenario=oltp-read-write-short ;;
        mysql-*) server=mysql-9.7 scenario=${load#mysql-} ;;
    esac
    python3 "$here/../../../harness/validate/validate.py" --parts record --again --record-idle 3 --server "$server" \
        ${SERVERS:+--servers "$SERVERS"} --recordings "$scratch" ${FRAGBENCH:+--fragbench "$FRAGBENCH"} --scenarios "$scenario"
    for ending in fbt json memory.csv; do mv "$scratch/$scenario.$ending" "$out/$load.$ending"; done
done
