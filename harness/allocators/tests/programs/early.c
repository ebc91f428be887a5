/* Allocation before constructors, in them, through dlopen and stdio, and while the process ends. */
#include "check.h"

static void *from_preinit, *from_constructor;

static void preinit(int argc, char **argv, char **envp) {
    (void)argc, (void)argv, (void)envp;
    from_preinit = calloc(3, 1000); /* before any library's constructor, libc's included */
}
__attribute__((section(".preinit_array"), used)) static void (*const preinit_entry)(int, char **, char **) = preinit;

__attribute__((constructor(101))) static void constructor(void) {
    from_constructor = malloc(100000);
    void *library = dlopen("libm.so.6", RTLD_NOW);
    CHECK(library != NULL && dlsym(library, "cos") != NULL);
}

static void last(void) {
    free(from_preinit);
    free(from_constructor);
    free(strdup("freed while the process ends"));
}

int main(void) {
    CHECK(from_preinit != NULL && from_constructor != NULL);
    for (int i = 0; i < 3000; i++) CHECK(((char *)from_preinit)[i] == 0);
    CHECK(atexit(last) == 0);
    FILE *file = fopen("/proc/self/maps", "r");
    char *line = NULL;
    size_t room = 0, lines = 0;
    CHECK(file != NULL);
    while (getline(&line, &room, file) > 0) lines++;
    free(line);
    CHECK(fclose(file) == 0 && lines > 5);
    puts("ok");
    return 0;
}
