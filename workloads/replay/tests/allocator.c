/* A malloc that is the C library's, with a thread of its own that waits in the way that CLOCK_TEST_WAIT names, and counts its
 * turns in the file CLOCK_TEST_LOG, with the monotonic clock it sees. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static sem_t sem;
static const char *way;
static volatile int started, signals;
static int log_fd = -1;
static const long STEP_NS = 500 * 1000 * 1000L;

static struct timespec after(clockid_t clock, long ns) {
    struct timespec t;
    clock_gettime(clock, &t);
    t.tv_nsec += ns;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

static void note(void) {
    struct timespec t, r;
    struct timeval v;
    char line[120];
    clock_gettime(CLOCK_MONOTONIC, &t);
    clock_gettime(CLOCK_REALTIME, &r);
    gettimeofday(&v, 0);
    int n = snprintf(line, sizeof line, "%lld %lld %lld\n", t.tv_sec * 1000000000LL + t.tv_nsec,
                     r.tv_sec * 1000000LL + r.tv_nsec / 1000, v.tv_sec * 1000000LL + v.tv_usec);
    if (write(log_fd, line, n) < 0) abort();
}

static int wait_once(void) {
    struct timespec half = {0, STEP_NS}, t;
    if (!strcmp(way, "nanosleep")) return nanosleep(&half, 0);
    if (!strcmp(way, "usleep")) return usleep(STEP_NS / 1000);
    if (!strcmp(way, "clock_nanosleep")) {
        t = after(CLOCK_REALTIME, STEP_NS);
        return clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, 0);
    }
    if (!strcmp(way, "sem_timedwait")) {
        t = after(CLOCK_REALTIME, STEP_NS);
        return sem_timedwait(&sem, &t) == -1 && errno == ETIMEDOUT ? 0 : 1;
    }
    if (!strcmp(way, "lock")) { /* sleeps while it holds what every allocation takes */
        pthread_mutex_lock(&held);
        nanosleep(&half, 0);
        pthread_mutex_unlock(&held);
        return nanosleep(&half, 0);
    }
    if (!strcmp(way, "end")) { /* does not come back after its third turn */
        static int turns;
        if (++turns == 3) pthread_exit(0);
        return nanosleep(&half, 0);
    }
    pthread_mutex_lock(&lock);
    int status = 0;
    if (!strcmp(way, "pthread_cond_timedwait")) {
        t = after(CLOCK_REALTIME, STEP_NS);
        while (status == 0) status = pthread_cond_timedwait(&cond, &lock, &t);
    } else if (!strcmp(way, "pthread_cond_clockwait")) {
        t = after(CLOCK_MONOTONIC, STEP_NS);
        while (status == 0) status = pthread_cond_clockwait(&cond, &lock, CLOCK_MONOTONIC, &t);
    } else if (!strcmp(way, "signal")) { /* waits for a signal without a limit */
        int seen = signals;
        while (signals == seen) pthread_cond_wait(&cond, &lock);
        status = ETIMEDOUT;
    } else abort();
    pthread_mutex_unlock(&lock);
    return status == ETIMEDOUT ? 0 : status;
}

static void *turns(void *unused) {
    for (;;) {
        if (wait_once() != 0) abort();
        note();
    }
    return unused;
}

void *malloc(size_t size) {
    static __thread unsigned calls;
    if (way && !started && __sync_bool_compare_and_swap(&started, 0, 1)) {
        pthread_t thread;
        sem_init(&sem, 0, 0);
        if (pthread_create(&thread, 0, turns, 0) != 0) abort();
        pthread_detach(thread);
    }
    if (started && !strcmp(way, "lock")) {
        pthread_mutex_lock(&held);
        pthread_mutex_unlock(&held);
    }
    if (started && !strcmp(way, "signal") && ++calls % 1000 == 0) {
        pthread_mutex_lock(&lock);
        signals++;
        pthread_cond_signal(&cond);
        pthread_mutex_unlock(&lock);
    }
    return __libc_malloc(size);
}

__attribute__((constructor)) static void begin(void) {
    const char *log = getenv("CLOCK_TEST_LOG");
    way = getenv("CLOCK_TEST_WAIT");
    if (log) log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
}
