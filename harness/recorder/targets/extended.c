// Calls of what allocators have beside libc's functions, where the process has it.
#include <stdlib.h>
#define MAY __attribute__((weak)) extern
MAY void *mallocx(size_t, int);
MAY void *rallocx(void *, size_t, int);
MAY void sdallocx(void *, size_t, int);
MAY void dallocx(void *, int);
MAY void *tc_new(size_t);
MAY void tc_delete(void *);
MAY void *mi_malloc_aligned(size_t, size_t);
MAY void mi_free(void *);

int main(int argc, char **argv) {
    // A program that runs on libc alone must not find any of them.
    if (!sdallocx) return argc > 1 ? 0 : 1;
    sdallocx(mallocx(29111, 0), 29111, 0);
    dallocx(rallocx(mallocx(29112, 0), 29113, 0), 0);
    sdallocx(mallocx(29184, 8), 29184, 8);
    free(mallocx(29114, 0));
    sdallocx(malloc(29115), 29115, 0);
    tc_delete(tc_new(29116));
    mi_free(mi_malloc_aligned(29120, 64));
    return 0;
}
