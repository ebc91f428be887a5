// Large blocks, some pages of which are written.
#include <stdlib.h>

static void touch(char *p, int pages) {
    for (int i = 0; i < pages; i++) ((volatile char *)p)[i * 4096 + 2048] = 1;
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
    free(malloc(60000));
    return 0;
}
