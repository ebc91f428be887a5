// An allocator to preload behind the recorder, not libc's: it never reuses memory, calls its own exported functions,
// and takes memory by mmap.
#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

static char *top, *end;

void *malloc(size_t size) {
    size = (size + 31) & ~(size_t)15;
    if ((size_t)(end - top) < size) {
        size_t chunk = size > 1 << 22 ? size : 1 << 22;
        top = mmap(NULL, chunk, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        end = top + chunk;
    }
    char *p = top + 16;
    *(size_t *)(p - 8) = ~(size_t)0;  // not what glibc has there
    *(size_t *)(p - 16) = size - 16;
    top += size;
    return p;
}
size_t malloc_usable_size(void *p) { return p ? *(size_t *)((char *)p - 16) : 0; }
void free(void *p) { (void)p; }
void *calloc(size_t n, size_t size) { return memset(malloc(n * size), 0, n * size); }
void *realloc(void *p, size_t size) {
    void *q = malloc(size);
    size_t old = malloc_usable_size(p);
    if (p) memcpy(q, p, old < size ? old : size);
    free(p);
    return q;
}
void *memalign(size_t align, size_t size) {
    uintptr_t p = (uintptr_t)malloc(size + align);
    uintptr_t q = (p + align - 1) & -align;
    *(size_t *)(q - 16) = size;
    return (void *)q;
}
void *aligned_alloc(size_t align, size_t size) { return memalign(align, size); }
int posix_memalign(void **out, size_t align, size_t size) { return *out = memalign(align, size), 0; }
