// The program's own calls on anonymous memory.
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

int main(void) {
    int rw = PROT_READ | PROT_WRITE;
    char *p = mmap(NULL, 81920, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return 1;
    p[0] = 1;
    if (madvise(p, 40960, MADV_DONTNEED)) return 2;
    p = mremap(p, 81920, 163840, MREMAP_MAYMOVE);
    if (p == MAP_FAILED || munmap(p, 163840)) return 3;
    int zero = open("/proc/self/exe", O_RDONLY);
    char *file = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, zero, 0);  // not anonymous: no event
    if (file == MAP_FAILED || mmap(NULL, (size_t)-1, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) return 4;
    if (sbrk(8192) == (void *)-1 || sbrk(0) == (void *)-1 || sbrk(-8192) == (void *)-1) return 5;
    return 0;
}
