/* A process to be asked. `subject MODE` brings its heap about, says where a second arena is, waits for a byte, and then
 * says "still here" after every further byte. What it waits in allocates nothing.
 *
 * scattered: 64 MiB, every second block freed, so that malloc_trim has much to do.
 * locked:    a thread's arena is locked and stays so.
 * trap:      scattered; a thread locks its own arena as soon as it is traced, and gives it back at the next byte.
 * working:   scattered; two threads free and allocate 12000 bytes time and again, each over 400 blocks of its own, and
 *            stand still only while the process is traced, so that a survey that was taken before the stop is out of date. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <fcntl.h>
#include <unistd.h>

#define BLOCK 12000
#define COUNT ((64UL << 20) / BLOCK)

static const char *mode;
static _Atomic int *_Atomic arena_lock;
static atomic_int at_work;
static atomic_int give_back;

static void fail(const char *what)
{
    perror(what);
    _exit(1);
}

static int traced(void)
{
    char text[2048];
    int file = open("/proc/thread-self/status", O_RDONLY);
    ssize_t got = read(file, text, sizeof text - 1);
    close(file);
    if (got <= 0)
        fail("status");
    text[got] = 0;
    const char *tracer = strstr(text, "TracerPid:");
    return tracer && atoi(tracer + 10) != 0;
}

/* The arena of a thread's block: the first word of the 64 MiB heap it lies in points there, and its first field is the
 * lock (glibc malloc/arena.c: heap_info). */
static void *other(void *unused)
{
    (void)unused;
    void *block = malloc(1000);
    uintptr_t heap = (uintptr_t)block & ~(uintptr_t)((64 << 20) - 1);
    arena_lock = *(_Atomic int **)heap;
    if (!strcmp(mode, "locked"))
        *arena_lock = 1;
    if (!strcmp(mode, "trap")) {
        while (!traced())
            ;
        *arena_lock = 2;
        while (!give_back)
            ;
        *arena_lock = 0;
        syscall(SYS_futex, (int *)arena_lock, 1, 1, NULL, NULL, 0);
    }
    for (;;)
        pause();
}

/* Goes through its blocks, freeing each for one round and allocating each in the next. */
static void *worker(void *unused)
{
    (void)unused;
    static _Thread_local void *blocks[400];
    for (;;) {
        for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
            while (traced())
                ;
            if (blocks[i]) {
                free(blocks[i]);
                blocks[i] = NULL;
            } else {
                blocks[i] = malloc(BLOCK);
                if (!blocks[i])
                    fail("malloc");
                memset(blocks[i], 1, BLOCK);
            }
        }
        at_work++;
    }
}

int main(int argc, char **argv)
{
    mode = argc > 1 ? argv[1] : "";
    if (strcmp(mode, "locked")) {
        static void *blocks[COUNT];
        for (size_t i = 0; i < COUNT; i++) {
            blocks[i] = malloc(BLOCK);
            if (!blocks[i])
                fail("malloc");
            memset(blocks[i], 1, BLOCK);
        }
        for (size_t i = 0; i < COUNT; i += 2)
            free(blocks[i]);
    }
    pthread_t thread;
    if (pthread_create(&thread, NULL, other, NULL))
        fail("pthread_create");
    while (!arena_lock || (!strcmp(mode, "locked") && !*arena_lock))
        ;
    for (int i = 0; i < 2 && !strcmp(mode, "working"); i++) {
        if (pthread_create(&thread, NULL, worker, NULL))
            fail("pthread_create");
    }
    while (!strcmp(mode, "working") && at_work < 2)
        usleep(1000);
    static const char here[] = "still here\n";
    char byte;
    do {
        if (write(1, here, sizeof here - 1) < 0)
            fail("write");
        if (read(0, &byte, 1) != 1)
            _exit(0);
        give_back = 1;
    } while (1);
}
