// An allocator with functions of its own, on top of libc's.
#define _GNU_SOURCE
#include <stddef.h>
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t),
    *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);
void *malloc(size_t n) { return __libc_malloc(n); }
void *calloc(size_t a, size_t b) { return __libc_calloc(a, b); }
void *realloc(void *p, size_t n) { return __libc_realloc(p, n); }
void free(void *p) { __libc_free(p); }
void *aligned_alloc(size_t a, size_t n) { return __libc_memalign(a, n); }
void *memalign(size_t a, size_t n) { return __libc_memalign(a, n); }
// These go through the public functions, as some allocators' do.
void *mallocx(size_t n, int f) { return f & 63 ? memalign((size_t)1 << (f & 63), n) : malloc(n); }
void *rallocx(void *p, size_t n, int f) { return realloc(p, n); }
void dallocx(void *p, int f) { free(p); }
void sdallocx(void *p, size_t n, int f) { dallocx(p, f); }
void *tc_new(size_t n) { return malloc(n); }
void tc_delete(void *p) { free(p); }
void *mi_malloc_aligned(size_t n, size_t a) { return memalign(a, n); }
void mi_free(void *p) { free(p); }
