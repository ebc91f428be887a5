// One thread allocates, another frees: 100,000 blocks through a ring of 64.
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { N = 100000, RING = 64 };
static void *ring[RING];
static atomic_long put, taken;

static void *consume(void *arg) {
    (void)arg;
    for (long i = 0; i < N; i++) {
        while (atomic_load(&put) <= i) sched_yield();
        free(ring[i % RING]);
        atomic_store(&taken, i + 1);
    }
    return NULL;
}

int main(void) {
    pthread_t t;
    if (pthread_create(&t, NULL, consume, NULL)) return 1;
    for (long i = 0; i < N; i++) {
        while (i - atomic_load(&taken) >= RING) sched_yield();
        ring[i % RING] = malloc(1000 + i % 100);
        atomic_store(&put, i + 1);
    }
    return pthread_join(t, NULL);
}
