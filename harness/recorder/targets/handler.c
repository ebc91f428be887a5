// Allocates in a signal handler that comes at arbitrary moments, whenever it finds that it has interrupted the recorder
// itself (never libc, where that would be the program's own fault). Once a pair at most: where signals come faster than
// the program gets on, all would meet the recorder at the same instruction. Prints how often it did.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <ucontext.h>

static uintptr_t from, to;
static volatile long made, done, last = -1;

static int find(struct dl_phdr_info *info, size_t size, void *name) {
    (void)size;
    if (!strstr(info->dlpi_name, name)) return 0;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD && info->dlpi_phdr[i].p_flags & PF_X) {
            from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
            to = from + info->dlpi_phdr[i].p_memsz;
        }
    return 1;
}

static void handler(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)info;
    ucontext_t *c = context;
#if defined __x86_64__
    uintptr_t at = c->uc_mcontext.gregs[REG_RIP];
#else
    uintptr_t at = c->uc_mcontext.pc;
#endif
    if (at < from || at >= to || last == done) return;
    last = done;
    free(malloc(18111));
    made++;
}

int main(void) {
    dl_iterate_phdr(find, "fragbench_recorder");
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval often = {{0, 50}, {0, 50}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &often, NULL);
    // Enough for many hits; without the recorder there are none.
    while (done < 50000000 && (made < 200 || done < 100000) && (to || done < 100000)) {
        free(malloc(18000 + done % 64));
        done++;
    }
    setitimer(ITIMER_REAL, &never, NULL);
    printf("%ld %ld\n", made, done);
    return 0;
}
