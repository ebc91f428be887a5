/* Blocks never freed, each size made by one function alone:
 *
 *   grow_cache      40 of 100 bytes, from two places of main's
 *   open_session    5 of 2000 bytes on each of 3 threads
 *   down            7 of 333 bytes, each at the end of 200 calls of itself
 *   on_signal       1 of 4444 bytes
 *   twice           3 of 600 bytes, grown there by realloc from 60 bytes that first made
 *   plugin_make     6 of 777 bytes, in a library (argv[1]) that is closed before the next one is opened
 *   other_make      2 of 888 bytes, in that next one (argv[2])
 *   in_child        3 of 5555 bytes, in a forked child alone
 *
 * What freed_again makes is freed; argv[3], if given, is how many times as much. */
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define HERE __attribute__((noinline))
/* Not static: a compiler may drop what nobody reads. */
void *volatile kept;

HERE static void *filled(size_t bytes)
{
    void *p = malloc(bytes);
    if (!p)
        abort();
    memset(p, 1, bytes);
    kept = p;
    return p;
}

HERE void grow_cache(int n)
{
    for (int i = 0; i < n; i++)
        filled(100);
    kept = 0;
}

HERE void freed_again(int n)
{
    for (int i = 0; i < n; i++)
        free(filled(100 + 16 * (size_t)(i % 50)));
    kept = 0;
}

HERE void open_session(void)
{
    for (int i = 0; i < 5; i++)
        filled(2000);
    kept = 0;
}

static void *session(void *unused)
{
    open_session();
    freed_again(500);
    return unused;
}

HERE int down(int depth)
{
    int below = depth ? down(depth - 1) : 0;
    if (!depth)
        filled(333);
    return below + 1;
}

static void on_signal(int signal)
{
    kept = calloc(1, 4444);
    (void)signal;
}

HERE void *first(void)
{
    return filled(60);
}

HERE void twice(void)
{
    for (int i = 0; i < 3; i++) {
        void *p = realloc(first(), 600);
        if (!p)
            abort();
        kept = p;
    }
}

HERE void in_child(void)
{
    for (int i = 0; i < 3; i++)
        filled(5555);
    kept = 0;
}

HERE static void plug(const char *path, const char *name, int n)
{
    void *library = dlopen(path, RTLD_NOW);
    void *(*make)(void) = (void *(*)(void))(library ? dlsym(library, name) : 0);
    if (!make)
        abort();
    for (int i = 0; i < n; i++)
        kept = make();
    dlclose(library);
}

int main(int argc, char **argv)
{
    pthread_t threads[3];
    if (argc < 3)
        return 2;
    int times = argc > 3 ? atoi(argv[3]) : 1;
    signal(SIGUSR1, on_signal);
    grow_cache(10);
    freed_again(500 * times);
    grow_cache(30);
    for (int i = 0; i < 3; i++)
        if (pthread_create(&threads[i], NULL, session, NULL))
            abort();
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 7; i++)
        if (down(200) != 201)
            abort();
    raise(SIGUSR1);
    twice();
    plug(argv[1], "plugin_make", 6);
    plug(argv[2], "other_make", 2);
    pid_t pid = fork();
    if (pid == 0) {
        in_child();
        exit(0);
    }
    int status;
    if (waitpid(pid, &status, 0) != pid || status)
        abort();
    return 0;
}
