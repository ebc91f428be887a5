// Children that share the parent's memory until they exec: posix_spawn, and vfork with an exec that fails.
#define _GNU_SOURCE
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

int main(int argc, char **argv) {
    if (argc > 1) {
        for (int i = 0; i < 30; i++) free(malloc(16222));
        return 0;
    }
    for (int i = 0; i < 10; i++) free(malloc(16111));
    char *args[] = {argv[0], "child", NULL};
    pid_t pid;
    int status;
    if (posix_spawn(&pid, argv[0], NULL, NULL, args, environ)) return 1;
    if (waitpid(pid, &status, 0) != pid || status != 0) return 2;
    pid = vfork();
    if (pid == 0) {
        execve("/nonexistent/program", args, environ);
        _exit(7);
    }
    if (waitpid(pid, &status, 0) != pid || WEXITSTATUS(status) != 7) return 3;
    for (int i = 0; i < 10; i++) free(malloc(16111));
    return 0;
}
