// To preload behind the recorder: a dlsym that allocates, as those of some libc versions and tools do.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

void *dlsym(void *restrict handle, const char *restrict name) {
    static void *(*real)(void *, const char *);
    char *copy = calloc(1, strlen(name) + 64);
    strcpy(copy, name);
    copy = realloc(copy, strlen(name) + 128);
    if (!real) real = (void *(*)(void *, const char *))dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34");
    if (!real) real = (void *(*)(void *, const char *))dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
    void *found = real(handle, copy);
    free(copy);
    return found;
}
