// One call of each kind, for an allocator whose functions call each other.
#include <stdlib.h>

int main(void) {
    void *p = calloc(10, 2711);
    p = realloc(p, 27112);
    free(p);
    free(malloc(27113));
    free(aligned_alloc(64, 27136));
    free(malloc(270000));
    return 0;
}
