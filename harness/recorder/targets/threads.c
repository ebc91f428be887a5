// Threads by thousands: each makes five blocks of 7777 bytes and frees four; some end detached, some by pthread_exit.
#include <pthread.h>
#include <stdlib.h>

static void *work(void *arg) {
    void *p[5];
    for (int i = 0; i < 5; i++) p[i] = malloc(7777);
    for (int i = 0; i < 4; i++) free(p[i]);
    if (arg) pthread_exit(p[4]);
    return p[4];
}

int main(void) {
    for (int round = 0; round < 250; round++) {
        pthread_t t[8];
        for (long i = 0; i < 8; i++)
            if (pthread_create(&t[i], NULL, work, (void *)(i % 2))) return 1;
        for (int i = 0; i < 8; i++) {
            void *left;
            if (pthread_join(t[i], &left)) return 2;
            free(left);
        }
    }
    return 0;
}
