// The ways to end, named by the argument, while another thread is alive and holds what it has recorded.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_barrier_t ready;

static void *other(void *arg) {
    for (int i = 0; i < 30; i++) free(malloc(23222));
    pthread_barrier_wait(&ready);
    pause();
    return arg;
}

static void last(void) { free(malloc(23333)); }
__attribute__((destructor)) static void very_last(void) { free(malloc(23444)); }

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "return";
    pthread_t t;
    pthread_barrier_init(&ready, NULL, 2);
    atexit(last);
    if (pthread_create(&t, NULL, other, NULL)) return 1;
    for (int i = 0; i < 20; i++) free(malloc(23111));
    pthread_barrier_wait(&ready);
    if (!strcmp(how, "exit")) exit(0);
    if (!strcmp(how, "_exit")) _exit(0);
    if (!strcmp(how, "_Exit")) _Exit(0);
    if (!strcmp(how, "quick_exit")) quick_exit(0);
    if (!strcmp(how, "abort")) abort();
    if (!strcmp(how, "daemon")) return daemon(1, 1);
    if (!strcmp(how, "pthread_exit")) {
        pthread_cancel(t);
        pthread_exit(NULL);
    }
    return 0;
}
