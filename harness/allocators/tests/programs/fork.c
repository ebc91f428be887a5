/* Forks while other threads allocate: parent and children go on allocating, children start threads of their own. */
#include "check.h"
#include <sched.h>
#include <stdatomic.h>

enum { THREADS = 8, FORKS = 20, MOST = 50 };
static atomic_bool stop;

static void churn(unsigned rounds) {
    void *live[64] = {0};
    for (unsigned i = 0; i < rounds; i++) {
        free(live[i % 64]);
        live[i % 64] = malloc(16 + (i * 2654435761u) % 500);
        CHECK(live[i % 64] != NULL);
        *(volatile char *)live[i % 64] = 1;
    }
    for (int i = 0; i < 64; i++) free(live[i]);
}

static void *work(void *unused) {
    /* The null allocator never reuses: after MOST rounds a thread goes on with a small one now and then. */
    for (int round = 0; !atomic_load(&stop); round++) {
        churn(round < MOST ? 1000 : 1);
        if (round >= MOST) sched_yield();
    }
    return unused;
}

static void *once(void *unused) {
    churn(2000);
    return unused;
}

int main(void) {
    alarm(60); /* a child stuck on a lock its parent held ends the test instead of hanging it */
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, work, NULL) == 0);
    for (int i = 0; i < FORKS; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            alarm(30);
            churn(2000);
            pthread_t thread;
            CHECK(pthread_create(&thread, NULL, once, NULL) == 0 && pthread_join(thread, NULL) == 0);
            _exit(7);
        }
        churn(1000);
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    puts("ok");
    return 0;
}
