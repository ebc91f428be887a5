// Large blocks, some pages of which are written, in fresh memory and in memory that was used before.
#include <stdlib.h>
#include <string.h>

static void touch(char *p, int pages) {
    for (int i = 0; i < pages; i++) memset(p + i * 4096 + 2048, 1, 512); // no mark of the recorder is further away
    __asm__ volatile("" : : "r"(p) : "memory"); // written, though nobody reads it
}

int main(void) {
    char *p = malloc(2000001);
    touch(p, 10);
    free(p);
    p = malloc(3000002);
    touch(p, 20);
    p = realloc(p, 5000003);
    touch(p, 30);
    free(p);
    // That free raised the threshold of mapping; these share one place in the heap.
    p = malloc(400004);
    touch(p, 97);
    free(p);
    p = malloc(400005);
    touch(p, 3);
    free(p);
    free(malloc(16000));
    return 0;
}
