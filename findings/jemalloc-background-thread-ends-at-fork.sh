#!/usr/bin/env bash
# MALLOC_CONF=background_thread:true does nothing in processes that a server forks: the child has no such thread, none is started later,
# and the option still reads true. Servers that fork a process a connection (PostgreSQL, Apache prefork) get decay on calls only.
#
# Guess: started again in the child at the first need, as it is in the parent.
# Seen (jemalloc 5.3.0 of Debian 12): parent: background_thread 1, opt.background_thread 1, 2 threads; child, after allocating: 0, 1, 1 thread.
#
# Why: background_thread_postfork_child forgets the threads and clears the switch; nothing sets it again.
# Source: src/background_thread.c of jemalloc 5.3.0; the manual's opt.background_thread does not speak of fork.
#
# Needs Debian 12, a C compiler, network.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get -o APT::Sandbox::User=root download -qq libjemalloc2=5.3.0-1
dpkg -x ./*.deb root
cat >probe.c <<'C'
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
static void tell(const char *who) {
    int (*ctl)(const char *, void *, size_t *, void *, size_t) = dlsym(RTLD_DEFAULT, "mallctl");
    unsigned char now = 9, option = 9;
    size_t size = 1;
    ctl("background_thread", &now, &size, NULL, 0);
    ctl("opt.background_thread", &option, &size, NULL, 0);
    int threads = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *entry; (entry = readdir(tasks));)
        threads += entry->d_name[0] != '.';
    printf("%s: %d %d, threads %d\n", who, now, option, threads);
    fflush(stdout);
}
int main(void) {
    free(malloc(100));
    tell("parent");
    if (fork() == 0) {
        for (int i = 0; i < 100; i++)
            free(memset(malloc(1 << 20), 1, 1 << 20));
        tell("child");
        _exit(0);
    }
    wait(NULL);
}
C
gcc -O1 -fno-builtin -w probe.c -o probe
seen=$(MALLOC_CONF=background_thread:true LD_PRELOAD=$(find "$dir/root" -name libjemalloc.so.2) ./probe)
echo "$seen"
[ "$seen" = "parent: 1 1, threads 2
child: 0 1, threads 1" ]
