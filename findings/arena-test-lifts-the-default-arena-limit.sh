#!/usr/bin/env bash
# MALLOC_ARENA_TEST is described as the number of arenas from which on glibc looks at the number of cores. Set above the limit it lifts the
# limit: on a machine whose default limit is 16, 66 threads get 67 arenas.
#
# Guess: it saves a look at the cores, the limit of 8 arenas a core stays.
# Seen (glibc 2.36-9+deb12u14 of Debian 12, two processors online): 66 threads make 16 arenas by default, 16 with MALLOC_ARENA_TEST=1,
# 67 with MALLOC_ARENA_TEST=66.
#
# Why: arena_get2 computes the limit only once there are more arenas than arena_test; until then each new thread gets one of its own.
# Sources: malloc/arena.c (arena_get2) of glibc; mallopt(3), M_ARENA_TEST.
#
# Needs Debian 12, a C compiler.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
[ "$(dpkg-query -W -f '${Version}' libc6 | cut -d - -f 1)" = 2.36 ] || { echo "this is not glibc 2.36" >&2; exit 1; }
cat >probe.c <<'C'
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
static pthread_barrier_t barrier;
static void *thread(void *unused) {
    void *block = malloc(1000);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    free(block);
    return unused;
}
int main(int argc, char **argv) {
    int count = atoi(argv[argc - 1]);
    pthread_t *threads = calloc(count, sizeof *threads);
    pthread_barrier_init(&barrier, NULL, count + 1);
    for (int i = 0; i < count; i++)
        pthread_create(&threads[i], NULL, thread, NULL);
    pthread_barrier_wait(&barrier);
    malloc_info(0, stdout);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
}
C
gcc -O1 -fno-builtin -pthread probe.c -o probe
status=0
limit=$((8 * $(getconf _NPROCESSORS_ONLN)))
threads=$((limit + 50))
expect() {
    local arenas
    arenas=$(env "$1" ./probe $threads | grep -c '<heap')
    echo "$1: $arenas arenas of $threads threads, default limit $limit"
    [ "$arenas" = "$2" ] || { echo "expected $2" >&2; status=1; }
}
expect NOTHING=set "$limit"
expect MALLOC_ARENA_TEST=1 "$limit"
expect MALLOC_ARENA_TEST=$threads $((threads + 1))
exit $status
