/* Programs that are attached to while they do what their first argument says. Each says "ready", works until a byte comes,
 * checks what its blocks hold, and says "done" and how many calls it made. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HELD = 512 };
static atomic_int stop;
static atomic_long calls;

static void check(const char *block, size_t length, char mark)
{
    for (size_t k = 0; k < length; k += 64)
        if (block[k] != mark)
            abort();
}

/* Makes and frees blocks. */
static void churn(unsigned seed, long rounds)
{
    char *held[HELD] = {0};
    size_t length[HELD] = {0};
    for (long n = 0; rounds ? n < rounds : !stop; n++) {
        unsigned i = rand_r(&seed) % HELD;
        if (held[i]) {
            check(held[i], length[i], (char)i);
            free(held[i]);
        }
        length[i] = 1 + rand_r(&seed) % 2000;
        held[i] = malloc(length[i]);
        memset(held[i], (char)i, length[i]);
        free(strdup("from within libc"));
        calls++;
        usleep(20);
    }
    for (int i = 0; i < HELD; i++)
        free(held[i]);
}

static void *worker(void *seed)
{
    churn((unsigned)(long)seed, 0);
    return NULL;
}

static void *short_worker(void *seed)
{
    churn((unsigned)(long)seed, 50);
    return NULL;
}

/* Threads that begin and end. */
static void *maker(void *unused)
{
    (void)unused;
    for (long seed = 1; !stop; seed++) {
        pthread_t short_one;
        if (pthread_create(&short_one, NULL, short_worker, (void *)seed))
            abort();
        pthread_join(short_one, NULL);
    }
    return NULL;
}

/* Children that allocate after fork. */
static void *forker(void *unused)
{
    (void)unused;
    while (!stop) {
        pid_t child = fork();
        if (child == 0) {
            for (int i = 0; i < 100; i++)
                free(strdup("a child's"));
            _exit(7);
        }
        int status;
        if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 7)
            abort();
    }
    return NULL;
}

/* A library that comes and goes, with a search order of its own if so wished. */
static void *loader(void *flags)
{
    while (!stop) {
        void *plugin = dlopen(getenv("PLUGIN"), RTLD_NOW | (int)(long)flags);
        if (!plugin)
            abort();
        char *(*make)(int) = (char *(*)(int))dlsym(plugin, "make");
        for (int i = 0; i < 50; i++) {
            char *made = make(i);
            check(made, 100, (char)i);
            free(made);
            calls++;
            usleep(20);
        }
        dlclose(plugin);
    }
    return NULL;
}

static void on_signal(int number)
{
    (void)number;
    calls++;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    pthread_t threads[4];
    int count = 2;
    void *(*first)(void *) = worker;
    void *argument = (void *)1;
    if (!strcmp(mode, "threads"))
        first = maker;
    else if (!strcmp(mode, "fork"))
        first = forker;
    else if (!strcmp(mode, "dlopen"))
        first = loader, argument = NULL;
    else if (!strcmp(mode, "deepbind"))
        first = loader, argument = (void *)(long)RTLD_DEEPBIND;
    else if (!strcmp(mode, "idle"))
        count = 0;
    else if (!strcmp(mode, "signals")) {
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
        struct itimerval often = {{0, 1000}, {0, 1000}};
        sigaction(SIGALRM, &action, NULL);
        setitimer(ITIMER_REAL, &often, NULL);
    }
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    /* Made before anybody attaches, freed while somebody is, or afterwards. */
    char *early[HELD];
    for (int i = 0; i < HELD; i++) {
        early[i] = malloc(100 + i);
        memset(early[i], (char)i, 100 + i);
    }
    for (int i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, i ? worker : first, i ? (void *)2 : argument))
            return 1;
    puts("ready");
    fflush(stdout);
    for (int byte; (byte = getchar()) == EOF;)
        clearerr(stdin);
    for (int i = 0; i < HELD; i++) {
        check(early[i], 100 + i, (char)i);
        free(early[i]);
    }
    puts("freed");
    fflush(stdout);
    for (int byte; (byte = getchar()) == EOF;)
        clearerr(stdin);
    stop = 1;
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    printf("done %ld\n", (long)calls);
    return 0;
}
