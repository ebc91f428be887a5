// Leaves functions, and a signal handler, by longjmp between allocations.
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>

static jmp_buf back;
static sigjmp_buf out;
static void *held;

static void deep(int n) {
    char pad[256];
    held = malloc(20111);
    pad[0] = n;
    if (n == 0) longjmp(back, 1);
    free(held);
    deep(n - 1);
    pad[1] = pad[0];
}

static void handler(int sig) {
    held = malloc(20222);
    siglongjmp(out, sig);
}

int main(void) {
    for (volatile int i = 0; i < 100; i++) {
        if (setjmp(back) == 0) deep(4);
        free(held);
    }
    signal(SIGUSR1, handler);
    for (volatile int i = 0; i < 100; i++) {
        if (sigsetjmp(out, 1) == 0) raise(SIGUSR1);
        free(held);
    }
    return 0;
}
