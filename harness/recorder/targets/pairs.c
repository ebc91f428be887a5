// The benchmark of recording: THREADS threads, each PAIRS pairs of malloc and free of 16 to 1024 bytes over SLOTS live
// slots; writes the first byte of each block, or with a fourth argument all of it. Prints the nanoseconds a pair took:
// of wall time (per thread), and of processor time.
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static long pairs, slots;
static int fill;

static void *work(void *arg) {
    uint64_t s = (uint64_t)(uintptr_t)arg * 0x9E3779B97F4A7C15u + 1;
    char **live = calloc(slots, sizeof *live);
    for (long i = 0; i < pairs; i++) {
        s ^= s << 13, s ^= s >> 7, s ^= s << 17;
        long k = (s >> 32) % slots;
        free(live[k]);
        size_t size = 16 + (s & 0xffff) % 1009;
        live[k] = malloc(size);
        if (fill)
            memset(live[k], i, size);
        else
            *(volatile char *)live[k] = 1;
    }
    for (long k = 0; k < slots; k++) free(live[k]);
    free(live);
    return NULL;
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 2;
    pairs = argc > 2 ? atol(argv[2]) : 1000000;
    slots = argc > 3 ? atol(argv[3]) : 10000;
    fill = argc > 4;
    pthread_t t[threads];
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (long i = 0; i < threads; i++) pthread_create(&t[i], NULL, work, (void *)(i + 1));
    for (int i = 0; i < threads; i++) pthread_join(t[i], NULL);
    clock_gettime(CLOCK_MONOTONIC, &b);
    struct timespec cpu;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    double wall = ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / pairs;
    printf("%.2f %.2f\n", wall, (cpu.tv_sec * 1e9 + cpu.tv_nsec) / pairs / threads);
    return 0;
}
