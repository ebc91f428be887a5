/* What every target program shares: a check that names what failed and where. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                              \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "%s:%d: failed: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno); \
            _exit(1);                                                                 \
        }                                                                             \
    } while (0)

/* glibc's rules for odd arguments, which fragbench's own libraries keep and some others do not. */
static inline int strict(void) { return getenv("STRICT") != NULL; }
