/* Every function of the malloc API: results, alignment, contents, errno, overflow, exhaustion. */
#include "check.h"

static void *volatile sink; /* keeps the compiler from removing calls */

static int aligned_to(void *block, size_t align) { return (uintptr_t)block % align == 0; }

static void sizes(void) {
    for (size_t size = 0; size < 200000; size += size < 300 ? 1 : size / 7) {
        unsigned char *block = malloc(size);
        CHECK(block != NULL);
        CHECK(aligned_to(block, size >= 16 ? 16 : 8));
        size_t usable = malloc_usable_size(block);
        CHECK(usable >= size);
        memset(block, 0xa5, usable);
        for (size_t i = 0; i < usable; i++) CHECK(block[i] == 0xa5);
        free(block);
    }
    void *a = malloc(0), *b = malloc(0);
    CHECK(a != NULL && b != NULL && a != b);
    free(a);
    free(b);
    free(NULL);
    CHECK(malloc_usable_size(NULL) == 0);
}

static void zeroed(void) {
    for (int round = 0; round < 3; round++)
        for (size_t size = 1; size < 3000000; size = size * 3 + 1) {
            unsigned char *block = calloc(size, 1);
            CHECK(block != NULL);
            for (size_t i = 0; i < size; i++) CHECK(block[i] == 0);
            memset(block, 0xff, size); /* so that reuse without zeroing would show */
            free(block);
        }
    free(calloc(0, 8));
    free(calloc(8, 0));
}

static void resized(void) {
    unsigned char *block = realloc(NULL, 1);
    CHECK(block != NULL);
    block[0] = 0;
    size_t old = 1;
    for (size_t size = 2; size < 4000000; size = size * 2 + 5) {
        block = realloc(block, size);
        CHECK(block != NULL && malloc_usable_size(block) >= size);
        for (size_t i = 0; i < old; i++) CHECK(block[i] == (unsigned char)(i * 7));
        for (size_t i = old; i < size; i++) block[i] = (unsigned char)(i * 7);
        old = size;
    }
    for (size_t size = old / 2; size > 8; size /= 2) {
        block = realloc(block, size);
        CHECK(block != NULL);
        for (size_t i = 0; i < size; i++) CHECK(block[i] == (unsigned char)(i * 7));
    }
    errno = 0;
    if (strict()) CHECK(realloc(block, 0) == NULL && errno == 0);
    else free(block);
    block = reallocarray(NULL, 10, 10);
    CHECK(block != NULL && malloc_usable_size(block) >= 100);
    block = reallocarray(block, 100, 100);
    CHECK(block != NULL && malloc_usable_size(block) >= 10000);
    free(block);
}

#define FAILS_WITH(code, call) do { errno = 0; sink = (call); CHECK(sink == NULL && errno == (code)); } while (0)

static void overflow(void) {
    volatile size_t huge = SIZE_MAX, half = (size_t)PTRDIFF_MAX + 1, root = (size_t)1 << 33;
    char *kept = malloc(100);
    memset(kept, 'k', 100);
    if (strict()) { /* Debian's mimalloc 2.0.9 returns null without setting errno */
        FAILS_WITH(ENOMEM, malloc(huge));
        FAILS_WITH(ENOMEM, malloc(half));
        FAILS_WITH(ENOMEM, malloc(huge - 64));
        FAILS_WITH(ENOMEM, calloc(huge, 2));
        FAILS_WITH(ENOMEM, calloc(root, root));
        FAILS_WITH(ENOMEM, calloc(half, 1));
        FAILS_WITH(ENOMEM, realloc(kept, huge));
        FAILS_WITH(ENOMEM, realloc(NULL, half));
        FAILS_WITH(ENOMEM, reallocarray(kept, root, root));
        FAILS_WITH(ENOMEM, pvalloc(huge));
        FAILS_WITH(ENOMEM, memalign(64, huge - 128));
        FAILS_WITH(ENOMEM, aligned_alloc(64, half));
        FAILS_WITH(EINVAL, memalign(half + 1, 8));
    } else {
        CHECK(malloc(huge) == NULL && calloc(root, root) == NULL && realloc(kept, huge) == NULL);
    }
    for (int i = 0; i < 100; i++) CHECK(kept[i] == 'k');
    free(kept);
}

static void aligned(void) {
    for (size_t align = 8; align <= (4u << 20); align *= 2)
        for (size_t size = 1; size < 100000; size = size * 5 + 3) {
            void *one = NULL, *two = aligned_alloc(align, size), *three = memalign(align, size);
            CHECK(posix_memalign(&one, align, size) == 0);
            CHECK(one != NULL && two != NULL && three != NULL);
            CHECK(aligned_to(one, align) && aligned_to(two, align) && aligned_to(three, align));
            CHECK(malloc_usable_size(one) >= size && malloc_usable_size(three) >= size);
            memset(one, 1, size);
            memset(two, 2, size);
            memset(three, 3, size);
            two = realloc(two, size + 1000);
            CHECK(two != NULL && *(char *)two == 2);
            CHECK(*(char *)one == 1 && *(char *)three == 3);
            free(one);
            free(two);
            free(three);
        }
    static const size_t refused[] = {0, 1, 2, 4, 3, 12, 24, 40};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        void *out = (void *)0x1234;
        errno = 4321;
        CHECK(posix_memalign(&out, refused[i], 64) == EINVAL);
        CHECK(errno == 4321 || !strict());
        CHECK(out == (void *)0x1234 || !strict());
    }
    void *out = (void *)0x1234;
    volatile size_t half = (size_t)PTRDIFF_MAX + 1;
    errno = 4321;
    if (strict()) CHECK(posix_memalign(&out, 64, half) == ENOMEM && out == (void *)0x1234);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *v = valloc(100);
    CHECK(v != NULL && aligned_to(v, page));
    free(v);
    if (strict()) { /* jemalloc 5.3.0 has no pvalloc: glibc's answers, with a block jemalloc cannot free */
        void *p = pvalloc(page + 1);
        CHECK(p != NULL && aligned_to(p, page));
        CHECK(malloc_usable_size(p) >= 2 * page);
        free(p);
        void *odd = memalign(48, 10); /* rounded up to 64 */
        CHECK(odd != NULL && aligned_to(odd, 64));
        free(odd);
        odd = memalign(0, 10);
        CHECK(odd != NULL && aligned_to(odd, 16));
        free(odd);
    }
}

static void sized_free(void) {
    void (*free_sized)(void *, size_t) = dlsym(RTLD_DEFAULT, "free_sized");
    void (*free_aligned_sized)(void *, size_t, size_t) = dlsym(RTLD_DEFAULT, "free_aligned_sized");
    if (getenv("OURS")) CHECK(free_sized != NULL && free_aligned_sized != NULL);
    if (free_sized) free_sized(malloc(77), 77);
    if (free_aligned_sized) free_aligned_sized(aligned_alloc(128, 77), 128, 77);
}

static void errno_kept(void) {
    for (size_t size = 16; size <= (64u << 20); size *= 4) {
        void *block = malloc(size);
        CHECK(block != NULL);
        *(volatile char *)block = 1;
        errno = 1234;
        free(block);
        CHECK(errno == 1234);
    }
}

/* With the address space limited, calls fail cleanly and what is live stays whole. */
static void exhausted(void) {
    struct rlimit limit = {2ul << 30, 2ul << 30};
    CHECK(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0); /* one touched byte shall cost one small page */
    /* The limit lies above what mimalloc reserves at its start (1 GiB). */
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    enum { SIZE = 1 << 20, MOST = 4096 };
    static char *blocks[MOST];
    int count = 0;
    errno = 0;
    while (count < MOST && (blocks[count] = malloc(SIZE)) != NULL) {
        blocks[count][0] = (char)count;
        count++;
    }
    CHECK(count < MOST);
    CHECK(errno == ENOMEM);
    for (int i = 0; i < count; i++) {
        CHECK(blocks[i][0] == (char)i);
        free(blocks[i]);
    }
}

int main(void) {
    sizes();
    zeroed();
    resized();
    overflow();
    aligned();
    sized_free();
    errno_kept();
    exhausted();
    if (write(1, "ok\n", 3) != 3) return 1;
    return 0;
}
