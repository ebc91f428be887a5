// A parent and its child go on allocating; the child also forks without using the heap and by a raw system call.
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void pairs(int n, size_t size) {
    for (int i = 0; i < n; i++) free(malloc(size));
}

static int finished(pid_t pid) {
    int status;
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int main(void) {
    void *inherited = malloc(11110);
    pairs(100, 11111);
    pid_t pid = fork();
    if (pid == 0) {
        free(inherited);  // a free of a block this process never allocated
        pairs(50, 12222);
        return 0;
    }
    if (!finished(pid)) return 1;
    pid = fork();
    if (pid == 0) _exit(0);
    if (!finished(pid)) return 2;
    pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        pairs(25, 13333);
        _exit(0);
    }
    if (!finished(pid)) return 3;
    pairs(100, 11111);
    free(inherited);
    return 0;
}
