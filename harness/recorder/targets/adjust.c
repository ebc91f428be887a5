// A program that adjusts glibc's allocator itself.
#include <malloc.h>
#include <stdlib.h>

int main(void) {
    if (mallopt(M_TRIM_THRESHOLD, 12345) != 1) return 1;
    free(malloc(31000));
    malloc_trim(54321);
    return 0;
}
