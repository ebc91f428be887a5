// Every function of the malloc API, with sizes that occur nowhere else.
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    void *kept[64];
    for (int i = 0; i < 64; i++) kept[i] = malloc(10007 + i);
    for (int i = 0; i < 64; i++) free(kept[i]);
    free(malloc(0));
    free(NULL);
    free(calloc(7, 1901));
    void *p = realloc(NULL, 10101);
    p = realloc(p, 10102);             // in place
    void *barrier = malloc(10103);     // so that growing must move
    p = realloc(p, 30303);
    p = reallocarray(p, 3, 20011);
    free(barrier);
    free(p);
    void *q = malloc(10104);
    if (realloc(q, 0) != NULL) return 1;  // glibc: a free
    errno = 0;
    if (reallocarray(NULL, SIZE_MAX / 2, 3) != NULL || errno != ENOMEM) return 2;
    errno = 0;
    if (malloc(PTRDIFF_MAX) != NULL || errno != ENOMEM) return 3;  // failed: no event
    free(aligned_alloc(64, 6400));
    free(memalign(128, 10105));
    void *r;
    if (posix_memalign(&r, 3, 10106) != EINVAL) return 4;
    if (posix_memalign(&r, 256, 10106) != 0) return 5;
    free(r);
    free(valloc(10107));
    free(pvalloc(10108));
    return 0;
}
