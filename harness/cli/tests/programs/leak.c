/* Blocks that stay, each in its own way: 64 of 4096 bytes made at the start and kept; 10 of 72 bytes in each of 100
 * rounds whose pointers are dropped; 3 of 1000 bytes dropped by a thread that ends; 30 of 50000 bytes in use at the end.
 * Everything else is freed. A round takes about 10 ms. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Not static: a compiler may drop what nobody reads. */
void *kept[64], *in_use[30];

static void *filled(size_t bytes)
{
    void *p = malloc(bytes);
    if (!p)
        abort();
    return memset(p, 1, bytes);
}

__attribute__((noinline)) static void drop_some(void)
{
    for (int i = 0; i < 10; i++)
        filled(72);
}

__attribute__((noinline)) static void work(void)
{
    void *blocks[200];
    for (int i = 0; i < 200; i++)
        blocks[i] = filled(16 + 37 * (size_t)i);
    for (int i = 0; i < 200; i++)
        free(blocks[i]);
}

static void *short_lived(void *unused)
{
    for (int i = 0; i < 3; i++)
        filled(1000);
    return unused;
}

int main(void)
{
    const struct timespec pause = {0, 10000000};
    pthread_t thread;
    for (int i = 0; i < 64; i++)
        kept[i] = filled(4096);
    if (pthread_create(&thread, NULL, short_lived, NULL) || pthread_join(thread, NULL))
        abort();
    for (int round = 0; round < 100; round++) {
        drop_some();
        work();
        nanosleep(&pause, NULL);
    }
    for (int i = 0; i < 30; i++)
        in_use[i] = filled(50000);
    return 0;
}
