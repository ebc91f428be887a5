// Closes every descriptor it does not know and takes all numbers itself; its file must hold what it wrote, no more.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc < 2) return 1;
    for (int i = 0; i < 30000; i++) free(malloc(26000 + i % 100));
    for (int fd = 3; fd < 1024; fd++) close(fd);
    int mine = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0600);
    while (dup(mine) < 1000) {}
    for (int i = 0; i < 30000; i++) free(malloc(26000 + i % 100));
    if (write(mine, "mine", 4) != 4) return 2;
    for (int i = 0; i < 30000; i++) free(malloc(26000 + i % 100));
    struct stat st;
    return fstat(mine, &st) || st.st_size != 4 ? 3 : 0;
}
