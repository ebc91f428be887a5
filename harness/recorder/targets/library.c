// The library that dlopen.c loads: allocates when loaded, when called, and when unloaded.
#include <stdlib.h>

static void *block;
__attribute__((constructor)) static void loaded(void) { block = malloc(19111); }
__attribute__((destructor)) static void unloaded(void) { free(block); }
void call(void) { free(malloc(19222)); }
