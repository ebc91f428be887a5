// Lowers its own file size limit, so that writing the spool fails, and must not notice.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

int main(void) {
    struct rlimit limit = {200000, 200000};
    if (setrlimit(RLIMIT_FSIZE, &limit)) return 1;
    for (long i = 0; i < 200000; i++) free(malloc(25000 + i % 100));
    puts("unharmed");
    return 0;
}
