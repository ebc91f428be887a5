#!/bin/bash
# The shards of a sweep on this machine's slots, by GNU parallel, and the merged result.
#
#   parallel.sh SHARDS OUT VERB OPTION…      for instance: parallel.sh 3 out run mysql --reps 15
#
# VERB is run, replay or compare; no -o, --shard or --resume among the options. Results: OUT/shard-I and OUT/merged. JOBS
# slots work at the same time [default: all shards]. Start it again after a failure: shards that were begun are finished.
#
# Shards that run at the same time take each other's cores, caches and memory bandwidth: throughput and latency of such a
# result are not to be used. Memory figures stand, where the memory suffices for all. JOBS=1 disturbs nothing.
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
shards=$1 out=$2
shift 2

shard() {
    local i=$1 shards=$2 out=$3 verb=$4 dir=$3/shard-$1 how=-o
    shift 4
    [ ! -e "$dir/manifest.json" ] || how=--resume
    exec "${FRAGBENCH:-fragbench}" "$verb" --shard "$i/$shards" "$how" "$dir" "$@"
}
export -f shard
# Each shard's output comes whole when it ends; a shard that fails does not stop the others.
seq "$shards" | parallel --quote --jobs "${JOBS:-$shards}" shard {} "$shards" "$out" "$@"
exec "${FRAGBENCH:-fragbench}" merge "$out"/shard-* -o "$out/merged"
