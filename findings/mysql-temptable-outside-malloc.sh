#!/usr/bin/env bash
# MySQL 9.7.4 (Debian sid, mysql-server-core) takes the blocks of its in-memory temporary tables (TempTable) from libnuma's
# numa_alloc_local, that is by mmap, not from malloc: no allocator that is preloaded or linked serves them, and figures of
# "the heap" that count anonymous memory hold 1 MiB a session of what malloc never saw.
# Expected from storage/temptable/include/temptable/memutils.h: malloc (it is what a build without libnuma does).
# Seen: a GROUP BY asks numa_alloc_local for 1048608 bytes (1 MiB and a header of 32).
# Needs: gcc, a MariaDB or MySQL client, python3, network. Exits with 1 when the behaviour has changed.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
server=
finish() {
    # Its data stay until it has ended: without them it would not.
    [ -z "$server" ] || kill "$server" || true
    wait
    rm -r "$work"
}
trap finish EXIT
"$here/harness/validate/fetch_servers.sh" "$work/servers" mysql-9.7
home=$work/servers/mysql-9.7
cat >"$work/numa.c" <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
void *numa_alloc_local(size_t size) {
  void *(*real)(size_t) = dlsym(RTLD_NEXT, "numa_alloc_local");
  fprintf(stderr, "numa_alloc_local %zu\n", size);
  return real(size);
}
C
gcc -shared -fPIC -o "$work/numa.so" "$work/numa.c"
mysqld() {
    "$home/usr/lib64/ld-linux-x86-64.so.2" --preload "$1" --library-path "$home/usr/lib/x86_64-linux-gnu:$home/usr/lib/mysql/private" \
        "$home/usr/sbin/mysqld" --no-defaults --basedir="$home/usr" --lc-messages-dir="$home/usr/share/mysql" --datadir="$work/data" \
        --secure-file-priv= --mysqlx=OFF --skip-networking --socket="$work/socket" --pid-file="$work/pid" --user="$(id -un)" "${@:2}"
}
mysqld "" --initialize-insecure 2>"$work/install.log"
mysqld "$work/numa.so" 2>"$work/log" &
client() { mariadb --no-defaults --socket="$work/socket" --user=root "$@"; }
for _ in $(seq 600); do client -e 'SELECT 1' >/dev/null 2>&1 && break; sleep 0.1; done
server=$(cat "$work/pid")
before=$(grep -c '^numa_alloc_local 1048608$' "$work/log" || true)
client -e 'SELECT SQL_BIG_RESULT help_category_id, COUNT(DISTINCT name) FROM mysql.help_topic GROUP BY help_category_id' >/dev/null
client -e 'WITH RECURSIVE s (n) AS (SELECT 1 UNION SELECT n + 1 FROM s WHERE n < 500) SELECT n % 7, COUNT(*) FROM s GROUP BY n % 7' >/dev/null
after=$(grep -c '^numa_alloc_local 1048608$' "$work/log" || true)
echo "blocks of 1048608 bytes asked of numa_alloc_local: $before before the statements, $after after"
[ "$after" -gt "$before" ]
