/* A heap in a known state. `heap CASE` brings it about, says what malloc says of it and which bytes it holds, waits
 * for a byte, calls malloc_trim(0), says so again, waits for a byte. It allocates nothing besides the case: no stdio. */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB (1UL << 20)
#ifndef SCALE
#define SCALE 64
#endif
#define COUNT(size) (SCALE * MIB / (size))

static void fail(const char *what)
{
    ssize_t ignored = write(2, what, strlen(what));
    (void)ignored;
    _exit(1);
}

static void *own(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        fail("mmap\n");
    return p;
}

/* Chunk bytes of the blocks the case holds. */
static _Atomic size_t held;

static void *take(size_t size)
{
    void *p = malloc(size);
    if (!p)
        fail("malloc\n");
    memset(p, 0x5a, size);
    held += malloc_usable_size(p) + 8;
    return p;
}

static void give(void *p)
{
    held -= malloc_usable_size(p) + 8;
    free(p);
}

static void say(void)
{
#ifdef OLD
    struct mallinfo m = mallinfo();
#else
    struct mallinfo2 m = mallinfo2();
#endif
    char line[512];
    int n = snprintf(line, sizeof line,
                     "arena=%zu mmapped_count=%zu mmapped=%zu used=%zu free=%zu fast=%zu top=%zu held=%zu\n",
                     (size_t)m.arena, (size_t)m.hblks, (size_t)m.hblkhd, (size_t)m.uordblks, (size_t)m.fordblks,
                     (size_t)m.fsmblks, (size_t)m.keepcost, (size_t)held);
    if (write(1, line, (size_t)n) != n)
        fail("write\n");
}

static void wait_for_byte(void)
{
    char byte;
    if (read(0, &byte, 1) < 0)
        fail("read\n");
}

static void **blocks;

static void fill(size_t count, size_t size)
{
    blocks = own(count * sizeof *blocks);
    for (size_t i = 0; i < count; i++)
        blocks[i] = take(size);
}

static void pinned_top(void)
{
    fill(COUNT(1008), 1000);
    take(1100);
    for (size_t i = 0; i < COUNT(1008); i++)
        give(blocks[i]);
}

static void tcache_pins_top(void)
{
    fill(COUNT(1008), 1000);
    for (size_t i = COUNT(1008); i-- > 0;)
        give(blocks[i]);
}

static void interleaved(size_t pitch)
{
    size_t count = COUNT(1008);
    fill(count, 1000);
    for (size_t i = 0; i < count; i++)
        if (i % pitch)
            give(blocks[i]);
}

static void interleaved_2(void) { interleaved(2); }
static void interleaved_8(void) { interleaved(8); }
static void interleaved_64(void) { interleaved(64); }

static void fastbins(void)
{
    fill(COUNT(64), 56);
    for (size_t i = 0; i < COUNT(64); i++)
        give(blocks[i]);
}

static void fastbins_scattered(void)
{
    size_t count = COUNT(64);
    fill(count, 56);
    for (size_t i = 0; i < count; i++)
        give(blocks[(i * 7919 + 13) % count]);
    take(56);
}

static void mmapped(void)
{
    for (size_t i = 0; i < 24; i++)
        take(200000 + 50000 * i);
    void *p;
    for (size_t align = 32; align <= MIB; align *= 4) {
        if (posix_memalign(&p, align, 300000))
            fail("posix_memalign\n");
        held += malloc_usable_size(p) + 8;
        memset(p, 1, 100000);
    }
}

/* A deterministic mix of sizes and lifetimes. */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

static void churn_with(uint64_t seed, size_t count, size_t rounds)
{
    void **mine = own(count * sizeof *mine);
    uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
    for (size_t i = 0; i < rounds; i++) {
        size_t at = next_random(&state) % count;
        if (mine[at])
            give(mine[at]);
        uint64_t r = next_random(&state);
        mine[at] = r % 5 ? take(16 + r % (r % 97 ? 2000 : 60000)) : NULL;
    }
}

static void churn(void) { churn_with(1, 20000, 400000); }

static pthread_barrier_t done;
static size_t threads;

static void *thread_churn(void *arg)
{
    churn_with((uintptr_t)arg, 3000, 60000);
    pthread_barrier_wait(&done);
    pause();
    return NULL;
}

static void *thread_free_all(void *arg)
{
    (void)arg;
    size_t count = 4 * MIB / 1008;
    void **mine = own(count * sizeof *mine);
    for (size_t i = 0; i < count; i++)
        mine[i] = take(1000);
    for (size_t i = count; i-- > 0;)
        give(mine[i]);
    pthread_barrier_wait(&done);
    pause();
    return NULL;
}

static void *thread_exits(void *arg)
{
    (void)arg;
    size_t count = 4 * MIB / 64;
    void **mine = own(count * sizeof *mine);
    for (size_t i = 0; i < count; i++)
        mine[i] = take(56);
    for (size_t i = 0; i < count; i++)
        give(mine[i]);
    return NULL;
}

/* More than one heap of 64 MiB. */
static void *thread_large(void *arg)
{
    (void)arg;
    size_t count = 150 * MIB / 30000;
    void **mine = own(count * sizeof *mine);
    for (size_t i = 0; i < count; i++)
        mine[i] = take(29000 + i % 1000);
    for (size_t i = 0; i < count; i += 3)
        give(mine[i]);
    pthread_barrier_wait(&done);
    pause();
    return NULL;
}

static void start(size_t n, void *(*body)(void *), int join)
{
    pthread_t ids[64];
    threads = n;
    pthread_barrier_init(&done, NULL, (unsigned)n + 1);
    for (size_t i = 0; i < n; i++)
        if (pthread_create(&ids[i], NULL, body, (void *)(i + 1)))
            fail("pthread_create\n");
    if (!join) {
        pthread_barrier_wait(&done);
        return;
    }
    for (size_t i = 0; i < n; i++)
        pthread_join(ids[i], NULL);
}

static void threads_churn(void) { start(12, thread_churn, 0); }
static void threads_tops(void) { start(8, thread_free_all, 0); }
static void threads_fastbins(void) { start(8, thread_exits, 1); }
static void threads_heaps(void) { start(2, thread_large, 0); }

/* Somebody else takes memory from brk between malloc's. */
static void foreign_brk(void)
{
    fill(20000, 1000);
    if (sbrk(300000) == (void *)-1)
        fail("sbrk\n");
    for (size_t i = 0; i < 20000; i++)
        take(1000);
    for (size_t i = 0; i < 20000; i += 2)
        give(blocks[i]);
}

/* brk is refused, so the main arena goes on in mappings. */
static void refused_brk(void)
{
    fill(1000, 1000);
    char *end = sbrk(0);
    char *page = (char *)(((uintptr_t)end + 4095) & ~4095UL);
    if (mmap(page, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != page)
        fail("mmap behind brk\n");
    fill(20000, 1000);
    for (size_t i = 0; i < 20000; i += 2)
        give(blocks[i]);
}

/* Threads that never rest. */
static void *thread_restless(void *arg)
{
    for (uintptr_t seed = (uintptr_t)arg;; seed += 8) {
        size_t count = 3000;
        void **mine = own(count * sizeof *mine);
        uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
        for (size_t i = 0; i < 300000; i++) {
            size_t at = next_random(&state) % count;
            free(mine[at]);
            mine[at] = malloc(16 + next_random(&state) % 3000);
        }
        for (size_t i = 0; i < count; i++)
            free(mine[i]);
        munmap(mine, count * sizeof *mine);
    }
    return NULL;
}

static void restless(void)
{
    pthread_t id;
    for (size_t i = 0; i < 4; i++)
        if (pthread_create(&id, NULL, thread_restless, (void *)(i + 1)))
            fail("pthread_create\n");
}

static void nothing(void) {}

/* One freed block of this size raises mmap_threshold to nearly 32 MiB and trim_threshold to nearly 64. */
static void ratchet(void) { free(malloc(32 * MIB - 8192)); }

static void mmap_ratchet(void)
{
    ratchet();
    size_t count = SCALE / 4;
    blocks = own(count * sizeof *blocks);
    for (size_t i = 0; i < count; i++) {
        blocks[i] = take(4 * MIB);
        take(1100);
    }
    for (size_t i = 0; i < count; i++)
        give(blocks[i]);
}

static void main_top(void)
{
    ratchet();
    size_t count = 24 * MIB / 8208;
    fill(count, 8192);
    for (size_t i = 0; i < count; i++)
        give(blocks[i]);
}

/* Fills an arena with blocks of a size, frees all but the last if that is to stay. */
static void peak(size_t bytes, size_t size, int pin)
{
    size_t count = bytes / size;
    void **mine = own(count * sizeof *mine);
    for (size_t i = 0; i < count; i++)
        mine[i] = take(size);
    if (pin)
        take(1100);
    for (size_t i = 0; i < count; i++)
        give(mine[i]);
}

static void *thread_top(void *arg)
{
    (void)arg;
    peak(6 * MIB, 8192, 0);
    pthread_barrier_wait(&done);
    pause();
    return NULL;
}

static void *thread_pinned(void *arg)
{
    (void)arg;
    peak(6 * MIB, 1000, 1);
    pthread_barrier_wait(&done);
    pause();
    return NULL;
}

/* Arenas of threads that have ended are used again, so all are at work at once. */
static void *thread_burst(void *arg)
{
    (void)arg;
    free(take(100));
    pthread_barrier_wait(&done);
    peak(6 * MIB, 1000, 1);
    return NULL;
}

static void burst_pinned(void)
{
    pthread_t ids[8];
    pthread_barrier_init(&done, NULL, 8);
    for (size_t i = 0; i < 8; i++)
        if (pthread_create(&ids[i], NULL, thread_burst, NULL))
            fail("pthread_create\n");
    for (size_t i = 0; i < 8; i++)
        pthread_join(ids[i], NULL);
}

static void *thread_tail(void *arg)
{
    (void)arg;
    peak(150 * MIB, 1000, 0);
    pthread_barrier_wait(&done);
    pause();
    return NULL;
}

static void *thread_cached(void *arg)
{
    (void)arg;
    void **mine = own(1500 * 63 * sizeof *mine);
    for (size_t i = 0; i < 1500 * 63; i++)
        mine[i] = take(24 + i % 63 * 16);
    for (size_t i = 0; i < 1500 * 63; i++)
        give(mine[i]);
    pthread_barrier_wait(&done);
    pause();
    return NULL;
}

static void *thread_small(void *arg)
{
    (void)arg;
    take(1024);
    pthread_barrier_wait(&done);
    pause();
    return NULL;
}

static void *thread_deep(void *arg)
{
    (void)arg;
    volatile char deep[4 * MIB];
    for (size_t i = 0; i < sizeof deep; i += 4096)
        deep[i] = 1;
    pthread_barrier_wait(&done);
    pause();
    return NULL;
}

static void threads_ratcheted(void) { ratchet(); start(8, thread_top, 0); }
static void threads_pinned(void) { start(8, thread_pinned, 0); }
static void threads_tail(void) { start(1, thread_tail, 0); }
static void threads_cached(void) { start(4, thread_cached, 0); }
static void threads_small(void) { start(60, thread_small, 0); }
static void threads_deep(void) { start(12, thread_deep, 0); }

static void map(int how)
{
    char *p = mmap(NULL, 64 * MIB, PROT_READ | PROT_WRITE, how | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        fail("mmap\n");
    memset(p, 1, 64 * MIB);
}

static void anonymous(void) { map(MAP_PRIVATE); }
static void shared(void) { map(MAP_SHARED); }
static void live(void) { fill(COUNT(208), 200); }

/* The memory of brk in huge pages: taken at once, advised, and filled then. All that is advised is filled, so that the
 * kernel has nothing to join later. What is asked for here is at least 8 MiB. */
static void huge(void)
{
    mallopt(M_TOP_PAD, (SCALE + 8) * MIB);
    take(1000);
    char *end = sbrk(0);
    uintptr_t start = ((uintptr_t)end - (SCALE + 8) * MIB + 2 * MIB - 1) & ~(2 * MIB - 1);
    if (madvise((void *)start, (SCALE - 4) * MIB, MADV_HUGEPAGE))
        fail("madvise\n");
}

static void huge_pinned(void) { huge(); pinned_top(); }
static void huge_interleaved(void) { huge(); interleaved_64(); }
static void more(void) { fill(COUNT(208), 200); }
static void warm(void) { fill(COUNT(208), 200); }

static const struct {
    const char *name;
    void (*run)(void);
    /* What it does after the first byte instead of trimming. */
    void (*then)(void);
} cases[] = {
    {"nothing", nothing, NULL},
    {"pinned-top", pinned_top, NULL},
    {"tcache-pins-top", tcache_pins_top, NULL},
    {"interleaved-2", interleaved_2, NULL},
    {"interleaved-8", interleaved_8, NULL},
    {"interleaved-64", interleaved_64, NULL},
    {"fastbins", fastbins, NULL},
    {"fastbins-scattered", fastbins_scattered, NULL},
    {"mmapped", mmapped, NULL},
    {"churn", churn, NULL},
    {"threads-churn", threads_churn, NULL},
    {"threads-tops", threads_tops, NULL},
    {"threads-fastbins", threads_fastbins, NULL},
    {"threads-heaps", threads_heaps, NULL},
    {"foreign-brk", foreign_brk, NULL},
    {"refused-brk", refused_brk, NULL},
    {"restless", restless, NULL},
    {"mmap-ratchet", mmap_ratchet, NULL},
    {"main-top", main_top, NULL},
    {"threads-ratcheted", threads_ratcheted, NULL},
    {"threads-pinned", threads_pinned, NULL},
    {"burst-pinned", burst_pinned, NULL},
    {"threads-tail", threads_tail, NULL},
    {"threads-cached", threads_cached, NULL},
    {"threads-small", threads_small, NULL},
    {"threads-deep", threads_deep, NULL},
    {"anonymous", anonymous, NULL},
    {"shared", shared, NULL},
    {"live", live, NULL},
    {"huge-pinned", huge_pinned, NULL},
    {"huge-interleaved", huge_interleaved, NULL},
    {"leak", live, more},
    {"peak", warm, pinned_top},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof cases / sizeof *cases; i++)
        if (!strcmp(argv[1], cases[i].name)) {
            cases[i].run();
            say();
            wait_for_byte();
            if (cases[i].then)
                cases[i].then();
            else
                malloc_trim(0);
            say();
            wait_for_byte();
            _exit(0);
        }
    fail("which case?\n");
}
