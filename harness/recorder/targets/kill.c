// Dies without notice in the middle of allocating.
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

int main(void) {
    for (long i = 0;; i++) {
        free(malloc(22000 + i % 100));
        if (i == 100000) kill(getpid(), SIGKILL);
    }
}
