/* Frees 64 MiB below a block that stays, so that free() gives nothing back, and waits until the memory is gone: something
 * else must have trimmed it. Also sends itself a signal that only its first thread waits for: a thread of a preloaded
 * library that took it would end the program. Needs FRAGBENCH_TRIM_EVERY_MS and the library that reads it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BLOCKS = 65536, SIZE = 1024, PATIENCE_S = 20 };
static void *blocks[BLOCKS];

static long resident_kib(void)
{
    static char text[256];
    FILE *file = fopen("/proc/self/statm", "r");
    long total = 0, resident = 0;
    if (file == NULL || fgets(text, sizeof text, file) == NULL || sscanf(text, "%ld %ld", &total, &resident) != 2)
        exit(2);
    fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

int main(void)
{
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, NULL);
    for (int i = 0; i < BLOCKS; i++)
        memset(blocks[i] = malloc(SIZE), 1, SIZE);
    void *pin = malloc(SIZE);
    long before = resident_kib();
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    time_t end = time(NULL) + PATIENCE_S;
    while (resident_kib() > before - 50 * 1024 && time(NULL) < end)
        usleep(1000);
    if (resident_kib() > before - 50 * 1024) {
        puts("not trimmed");
        return 1;
    }
    void (*totals)(uint64_t *) = (void (*)(uint64_t *))dlsym(RTLD_DEFAULT, "fragbench_trim_totals");
    uint64_t counted[3] = {0, 0, 0};
    if (totals != NULL)
        totals(counted);
    kill(getpid(), SIGTERM);
    siginfo_t info;
    struct timespec patience = {PATIENCE_S, 0};
    int received = sigtimedwait(&term, &info, &patience);
    free(pin);
    if (totals == NULL || counted[0] == 0 || counted[2] == 0 || counted[1] < counted[2] || received != SIGTERM) {
        printf("calls %lu, longest %lu ns, signal %d\n", (unsigned long)counted[0], (unsigned long)counted[2], received);
        return 1;
    }
    puts("ok");
    return 0;
}
