/* 64 threads that hand blocks to each other, short-lived threads by the thousand, allocation in TLS destructors. */
#include "check.h"
#include <stdatomic.h>

enum { THREADS = 64, ROUNDS = 4000, SLOTS = 512, SHORT_LIVED = 2000 };

struct block { uint64_t size, tag; };
static _Atomic(struct block *) slots[SLOTS];

static uint64_t next(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static void check_and_free(struct block *block) {
    if (block == NULL) return;
    CHECK(block->tag == (block->size ^ 0x5bd1e995u));
    unsigned char *last = (unsigned char *)block + block->size - 1;
    CHECK(*last == (unsigned char)block->size || block->size == sizeof *block);
    free(block);
}

static void *work(void *seed) {
    uint64_t state = (uintptr_t)seed + 1;
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t dice = next(&state), size = sizeof(struct block) + dice % (dice % 100 == 0 ? 300000 : 900);
        struct block *block = dice % 3 ? malloc(size) : calloc(1, size);
        CHECK(block != NULL);
        block->size = size;
        block->tag = size ^ 0x5bd1e995u;
        if (size > sizeof *block) ((unsigned char *)block)[size - 1] = (unsigned char)size;
        check_and_free(atomic_exchange(&slots[next(&state) % SLOTS], block));
    }
    return NULL;
}

static pthread_key_t key;
static void at_exit_of_thread(void *block) {
    free(block);
    void *more = malloc(100);
    CHECK(more != NULL);
    free(more);
}

static void *short_lived(void *unused) {
    (void)unused;
    CHECK(pthread_setspecific(key, malloc(64)) == 0);
    return malloc(200);
}

int main(void) {
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    for (int i = 0; i < SLOTS; i++) check_and_free(atomic_exchange(&slots[i], NULL));
    CHECK(pthread_key_create(&key, at_exit_of_thread) == 0);
    for (int i = 0; i < SHORT_LIVED; i += 10) {
        for (int j = 0; j < 10; j++) CHECK(pthread_create(&threads[j], NULL, short_lived, NULL) == 0);
        for (int j = 0; j < 10; j++) {
            void *block;
            CHECK(pthread_join(threads[j], &block) == 0 && block != NULL);
            free(block);
        }
    }
    puts("ok");
    return 0;
}
