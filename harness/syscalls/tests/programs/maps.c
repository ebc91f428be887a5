/* Maps memory in every way that is told apart: four threads, each with an arena of its own that grows past 64 MiB in
 * the first; five chunks above the mmap threshold; a mapping of the program's own; a file. With an argument it waits for
 * a byte first. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define THREADS 4

static pthread_barrier_t all_here;

static void *worker(void *first)
{
    char *p = malloc(100);
    memset(p, 1, 100);
    for (int i = 0; first && i < 700; i++)
        memset(malloc(100000), 1, 1);
    pthread_barrier_wait(&all_here);
    return p;
}

__attribute__((noinline)) static void large_blocks(void)
{
    for (int i = 0; i < 5; i++)
        memset(malloc(3000000), 1, 1);
}

__attribute__((noinline)) static void own_mapping(void)
{
    char *p = mmap(NULL, 5 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    p[0] = 1;
    madvise(p, 5 << 20, MADV_DONTNEED);
    munmap(p, 5 << 20);
}

int main(int argc, char **argv)
{
    char byte;
    if (argc > 1 && read(0, &byte, 1) < 0)
        return 1;
    pthread_t threads[THREADS];
    pthread_barrier_init(&all_here, NULL, THREADS);
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, worker, i == 0 ? argv : NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    large_blocks();
    own_mapping();
    return 0;
}
