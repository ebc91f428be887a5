/* Programs whose memory each rule of the verdict is about; each says "idle=1" when it is at rest, and again when it has
   trimmed its heap, for every byte it reads. */
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *filled(size_t size) {
    void *block = malloc(size);
    if (!block)
        abort();
    return memset(block, 1, size);
}

/* Decoders: two buffers of 6.2 MB a frame, one small record a frame stays. */
enum { DECODERS = 6, FRAMES = 12 };
static void *records[DECODERS][FRAMES];

static void *decoder(void *own) {
    for (int i = 0; i < FRAMES; i++) {
        char *a = filled(6220800), *b = filled(6220800);
        ((void **)own)[i] = filled(900);
        free(a);
        free(b);
        for (int j = 0; j < 50; j++)
            free(filled(3000));
    }
    return 0;
}

/* A pool: handlers in turn each build and free a tree, and one small block of each request stays. */
enum { HANDLERS = 12, NODES = 20000, REQUESTS = 36 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int turn = -1;
static void *results[REQUESTS];

static void *handler(void *own) {
    static __thread char *node[NODES];
    for (;;) {
        pthread_mutex_lock(&lock);
        while (turn != (int)(long)own)
            pthread_cond_wait(&changed, &lock);
        for (int i = 0; i < NODES; i++)
            node[i] = filled(100 + i * 13 % 400);
        static int result;
        results[result++] = filled(300);
        for (int i = 0; i < NODES; i++)
            free(node[i]);
        turn = -1;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
    return 0;
}

/* Threads that peak one after the other and keep a hundredth of it. */
enum { PEAKS = 12, BLOCKS = 2000 };
static pthread_barrier_t peaked;

static void *peak(void *own) {
    char *blocks[BLOCKS];
    (void)own;
    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = filled(4000);
    for (int i = 0; i < BLOCKS; i++)
        if (i % 100)
            free(blocks[i]);
    pthread_barrier_wait(&peaked);
    pause();
    return 0;
}

/* Workers allocate, the main thread frees; one node in two thousand stays. */
enum { WORKERS = 8, HANDED = 40000 };
static char *handed[WORKERS][HANDED];

static void *worker(void *own) {
    for (int i = 0; i < HANDED; i++)
        ((char **)own)[i] = filled(200 + i * 7 % 300);
    return 0;
}

/* Many small blocks, freed one by one: what caches and fast bins hold. */
static void small(size_t size, int count) {
    void **blocks = malloc(count * sizeof *blocks);
    for (int i = 0; i < count; i++)
        blocks[i] = filled(size);
    for (int i = 0; i < count; i++)
        free(blocks[i]);
    free(blocks);
}

static void *cacher(void *own) {
    (void)own;
    for (size_t size = 24; size <= 1032; size += 16) {
        void *blocks[7];
        for (int i = 0; i < 7; i++)
            blocks[i] = filled(size);
        for (int i = 0; i < 7; i++)
            free(blocks[i]);
    }
    pthread_barrier_wait(&peaked);
    pause();
    return 0;
}

static void threads(int count, void *(*run)(void *), char *own, size_t stride, int join) {
    pthread_t thread[256];
    for (int i = 0; i < count; i++)
        pthread_create(&thread[i], 0, run, own + i * stride);
    for (int i = 0; join && i < count; i++)
        pthread_join(thread[i], 0);
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    /* A buffer taken from the heap would empty the fast bins. */
    static char buffer[64];
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    if (!strcmp(mode, "frames")) {
        threads(DECODERS, decoder, (char *)records, sizeof records[0], 1);
    } else if (!strcmp(mode, "pool")) {
        threads(HANDLERS, handler, 0, 1, 0);
        for (int i = 0; i < REQUESTS; i++) {
            pthread_mutex_lock(&lock);
            turn = i * 7 % HANDLERS;
            pthread_cond_broadcast(&changed);
            while (turn >= 0)
                pthread_cond_wait(&changed, &lock);
            pthread_mutex_unlock(&lock);
        }
    } else if (!strcmp(mode, "peaks")) {
        for (int i = 0; i < PEAKS; i++) {
            pthread_barrier_init(&peaked, 0, 2);
            threads(1, peak, 0, 0, 0);
            pthread_barrier_wait(&peaked);
        }
    } else if (!strcmp(mode, "handoff")) {
        for (int round = 0; round < 2; round++) {
            threads(WORKERS, worker, (char *)handed, sizeof handed[0], 1);
            for (int k = 0; k < WORKERS; k++)
                for (int i = 0; i < HANDED; i++)
                    if (i % 2000)
                        free(handed[k][i]);
        }
    } else if (!strcmp(mode, "tiny")) {
        static void *blocks[8192];
        for (int i = 0; i < 8192; i++)
            blocks[i] = filled(100);
    } else if (!strcmp(mode, "fast")) {
        static void *blocks[400000];
        for (int i = 0; i < 400000; i++)
            blocks[i] = filled(56);
        for (int i = 0; i < 400000; i++)
            free(blocks[i]);
    } else if (!strcmp(mode, "caches")) {
        pthread_barrier_init(&peaked, 0, 65);
        threads(64, cacher, 0, 0, 0);
        pthread_barrier_wait(&peaked);
    } else if (!strcmp(mode, "top")) {
        /* A block of 24 MiB that was mapped raises both thresholds; then a top of 40 MiB stays below them. */
        free(filled(24 << 20));
        small(4000, 10000);
    } else {
        return 2;
    }
    char byte;
    do {
        printf("idle=1\n");
        fflush(stdout);
    } while (read(0, &byte, 1) == 1 && malloc_trim(0) >= 0);
    return 0;
}
