// Raises the signal in the argument between four bouts of allocating.
#include <signal.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    if (argc < 2) return 1;
    for (int bout = 1; bout <= 4; bout++) {
        for (int i = 0; i < 10 * bout; i++) free(malloc(24000 + bout));
        raise(atoi(argv[1]));
    }
    return 0;
}
