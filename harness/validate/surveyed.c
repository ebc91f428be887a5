/* A malloc benchmark that never rests: `surveyed THREADS`. Each thread frees and allocates blocks of 16 to 1024 bytes
 * over 10,000 slots of its own. To every byte on its input it answers with the pairs made so far and the processor time
 * taken, nanoseconds. What counts is in static memory, so nothing but the blocks is in the heap. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define THREADS 64
#define SLOTS 10000

static struct {
    _Alignas(128) _Atomic uint64_t pairs;
    char *blocks[SLOTS];
} work[THREADS];

static void *run(void *argument)
{
    size_t me = (size_t)argument;
    uint64_t state = me * 0x9e3779b97f4a7c15u + 1;
    for (;;) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char **block = &work[me].blocks[state % SLOTS];
        free(*block);
        *block = malloc(16 + (state >> 32) % 1009);
        if (!*block)
            _exit(1);
        **block = 1;
        atomic_store_explicit(&work[me].pairs, work[me].pairs + 1, memory_order_relaxed);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 16;
    if (threads < 1 || threads > THREADS)
        return 2;
    for (size_t i = 0; i < (size_t)threads; i++) {
        pthread_t id;
        if (pthread_create(&id, NULL, run, (void *)i))
            return 1;
    }
    char byte, line[64];
    while (read(0, &byte, 1) == 1) {
        uint64_t pairs = 0;
        for (int i = 0; i < threads; i++)
            pairs += work[i].pairs;
        struct timespec cpu;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
        int n = snprintf(line, sizeof line, "%llu %llu\n", (unsigned long long)pairs,
                         (unsigned long long)cpu.tv_sec * 1000000000u + (unsigned long long)cpu.tv_nsec);
        if (write(1, line, (size_t)n) != n)
            return 1;
    }
    _exit(0);
}
