/* A library with one function, NAME, that makes a block of SIZE bytes and forgets it. */
#include <stdlib.h>

static void *inner(void)
{
    void *p = malloc(SIZE);
    /* Not the function's last call. */
    __asm__ volatile("" : : "r"(p) : "memory");
    return p;
}

void *NAME(void)
{
    void *p = inner();
    __asm__ volatile("" : : "r"(p) : "memory");
    return p;
}
