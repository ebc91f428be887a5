// Replaces itself by itself, once through each kind of exec: the argument counts down.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

int main(int argc, char **argv) {
    int left = argc > 1 ? atoi(argv[1]) : 4;
    for (int i = 0; i < 20; i++) free(malloc(14000 + left));
    char next[12];
    snprintf(next, sizeof next, "%d", left - 1);
    char *args[] = {argv[0], next, NULL};
    execv("/nonexistent/program", args);  // fails, and the program goes on
    for (int i = 0; i < 3; i++) free(malloc(15000 + left));
    if (left == 4) execl(argv[0], argv[0], next, NULL);
    if (left == 3) execve(argv[0], args, environ);
    if (left == 2) execvp(argv[0], args);
    if (left == 1) execle(argv[0], argv[0], next, NULL, environ);
    return left;
}
