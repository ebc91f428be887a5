// Loads and unloads a library again and again.
#include <dlfcn.h>

int main(int argc, char **argv) {
    if (argc < 2) return 1;
    for (int i = 0; i < 100; i++) {
        void *lib = dlopen(argv[1], RTLD_NOW);
        if (!lib) return 2;
        void (*call)(void) = (void (*)(void))dlsym(lib, "call");
        call();
        if (dlclose(lib)) return 3;
    }
    return 0;
}
