#!/bin/bash
# Records the traces beside this script from a real MariaDB server, with a file of its heap's resident memory each.
#
#   make.sh [oltp-read-write] [connection-storm] [blob-churn]        all three when none is named
#
# Debian 12: apt install mariadb-server sysbench python3; then `cargo build --release` in the workspace.
# The server is private: its own data directory, a unix socket only, no configuration file. A server of the system's is
# neither used nor touched, and only processes started here are ended.
#
# FRAGBENCH   the program (default: target/release/fragbench of this workspace)
# TRACE_DIR   where the traces go (default: beside this script)
# KEEP        when set, the server's directory is kept and its place said
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
fragbench=${FRAGBENCH:-$here/../../../target/release/fragbench}
out=${TRACE_DIR:-$here}
loads=("$@")
[ ${#loads[@]} -gt 0 ] || loads=(oltp-read-write connection-storm blob-churn)

for program in mariadbd mariadb mariadb-install-db sysbench python3 "$fragbench"; do
    command -v "$program" > /dev/null || { echo "make.sh: $program not found (see the head of this script)" >&2; exit 1; }
done

work=$(mktemp -d "${TMPDIR:-/tmp}/fragbench-traces.XXXXXX")
socket=$work/socket
server= # process that runs the server, and what watches it
sampler=
gate=

cleanup() {
    [ -z "$gate" ] || kill "$gate" 2> /dev/null || true
    [ -z "$sampler" ] || kill "$sampler" 2> /dev/null || true
    [ ! -s "$work/pid" ] || kill -KILL "$(cat "$work/pid")" 2> /dev/null || true
    if [ -n "${KEEP:-}" ]; then echo "kept: $work"; else rm -rf "$work"; fi
}
trap cleanup EXIT

# Small pool, so that the heap is most of what the server holds; stacks are not kept for reuse, so that they do not
# mix with the heap; threads end with their connections but for a few, as they do on a server left idle.
server_options=(
    --no-defaults --datadir="$work/data" --socket="$socket" --pid-file="$work/pid" --tmpdir="$work/tmp"
    --log-error="$work/error.log" --skip-networking --performance-schema=OFF
    --innodb-buffer-pool-size=64M --innodb-buffer-pool-size-max=64M --innodb-log-file-size=64M
    --innodb-flush-log-at-trx-commit=0 --innodb-doublewrite=OFF
    --max-connections=500 --thread-cache-size=4 --max-allowed-packet=16M
)
[ "$(id -u)" != 0 ] || server_options+=(--user=root)
export GLIBC_TUNABLES=glibc.pthread.stack_cache_size=0

client=(mariadb --no-defaults --socket="$socket" --user=root --batch --skip-column-names)
bench=(sysbench --db-driver=mysql --mysql-socket="$socket" --mysql-user=root --mysql-db=load --rand-seed=7 --verbosity=2)

answers() { "${client[@]}" -e 'SELECT 1' > /dev/null 2>&1; }

# wait_for WHAT CONDITION...: until the command succeeds, or a minute has passed.
wait_for() {
    local what=$1 deadline=$((SECONDS + 60))
    shift
    until "$@"; do
        [ $SECONDS -lt $deadline ] || { echo "make.sh: no $what within a minute" >&2; tail -n 20 "$work/error.log" >&2; exit 1; }
        sleep 0.05
    done
}

gone() { ! kill -0 "$1" 2> /dev/null; }

# start COMMAND...: the server, run by the command given (nothing: plainly).
start() {
    rm -f "$work/pid"
    "$@" mariadbd "${server_options[@]}" > "$work/out.log" 2>&1 &
    server=$!
    wait_for "answer of the server" answers
}

# Ends the server, through what runs it, and waits.
stop() {
    kill -TERM "$server"
    wait "$server" || true
    server=
    rm -f "$work/pid"
}

# Tables are made by a server that is not recorded.
prepare() {
    rm -rf "$work/data" "$work/tmp"
    mkdir "$work/tmp"
    mariadb-install-db "${server_options[@]}" --auth-root-authentication-method=normal --skip-test-db > "$work/install.log" 2>&1
    start
    "${client[@]}" -e 'CREATE DATABASE `load`'
    case $1 in
        oltp-read-write) "${bench[@]}" oltp_read_write --tables=4 --table-size=10000 prepare ;;
        *) "${bench[@]}" "$here/$1.lua" prepare ;;
    esac > /dev/null
    stop
}

# 64 long-lived connections.
oltp-read-write() {
    "${bench[@]}" oltp_read_write --tables=4 --table-size=10000 --threads=64 --time=0 --events=4200 run
}

# wave NUMBER CONNECTIONS ROWS: all connections reach the gate before it opens, which fixes the peak.
wave() {
    local waiting="SELECT COUNT(*) >= $2 FROM information_schema.processlist WHERE state LIKE 'Waiting for table metadata lock%'"
    at_the_gate() { [ "$("${client[@]}" -e "$waiting")" = 1 ]; }
    alone() { [ "$("${client[@]}" -e 'SELECT COUNT(*) <= 1 FROM information_schema.processlist WHERE user = "root"')" = 1 ]; }
    mkfifo "$work/gate.$1"
    "${client[@]}" load < "$work/gate.$1" > "$work/gate.out" &
    gate=$!
    exec 9> "$work/gate.$1"
    echo "LOCK TABLE gate WRITE; SELECT 'closed';" >&9
    "${bench[@]}" "$here/connection-storm.lua" --threads="$2" --events="$2" --time=0 --rows="$3" --seed-of-wave="$1" run &
    local storm=$!
    wait_for "full gate" at_the_gate
    sleep 0.5 # the peak lasts long enough to be sampled
    echo "UNLOCK TABLES;" >&9
    exec 9>&-
    wait "$storm" "$gate"
    gate=
    wait_for "end of all sessions" alone
    sleep 0.5
}

# Three waves of different size; sessions end after each.
connection-storm() {
    wave 1 150 1500
    wave 2 260 1200
    wave 3 90 2500
}

# 12 connections that store and fetch large values.
blob-churn() {
    "${bench[@]}" "$here/blob-churn.lua" --threads=12 --time=0 --events=1500 run
}

record() {
    local name=$1 pid
    echo "== $name"
    prepare "$name"
    # The trace ends while the server idles: its shutdown would free the heap that the trace is to end with.
    start "$fragbench" record -o "$out/$name.fbt" --end-at-signal --
    pid=$(cat "$work/pid")
    python3 "$here/heap_rss.py" "$pid" "$out/$name.memory.csv" 20 &
    sampler=$!
    sleep 1
    local begun=${EPOCHREALTIME/./}
    "$name" > "$work/load.log" 2>&1 || { cat "$work/load.log" >&2; exit 1; }
    echo "the load took $(((${EPOCHREALTIME/./} - begun) / 1000)) ms"
    sleep 4 # idle
    kill "$sampler"
    wait "$sampler" || true
    sampler=
    stop
    grep -F "$name.fbt" "$work/out.log" || true
}

mkdir -p "$out"
for load in "${loads[@]}"; do
    case $load in
        oltp-read-write | connection-storm | blob-churn) record "$load" ;;
        *) echo "make.sh: no load named $load; there are oltp-read-write, connection-storm, blob-churn" >&2; exit 1 ;;
    esac
done
