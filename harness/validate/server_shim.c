/* Preloaded into a server so that its RssAnon is its heap: what the server's own program maps, and the stacks of its
 * threads, become shared anonymous memory, which the kernel counts as RssShmem. What malloc maps stays private. The
 * worker that replays keeps its own memory out of RssAnon in the same way, so the two figures mean the same.
 *
 * SIGRTMIN+5 makes the thread that gets it give back what the allocator can, and says so on stderr. The server must be
 * idle: the call is no more signal-safe than a debugger's would be.
 *
 * Stacks of ended threads are not given back: they are not counted, and the server lives for one load. Refuses nothing;
 * threads started by libc itself keep their private stacks. x86-64 and aarch64 Linux, PIE or not.
 *
 * Sources: mmap(2), pthread_attr_setstack(3), jemalloc(3), gperftools/malloc_extension_c.h, mimalloc.h. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Whether code of the main program lies at the address. */
static bool of_program(uintptr_t address) {
  const ElfW(Phdr) *headers = (const ElfW(Phdr) *)getauxval(AT_PHDR);
  size_t count = getauxval(AT_PHNUM);
  uintptr_t bias = 0;
  for (size_t i = 0; i < count; i++)
    if (headers[i].p_type == PT_PHDR) bias = (uintptr_t)headers - headers[i].p_vaddr;
  for (size_t i = 0; i < count; i++) {
    const ElfW(Phdr) *part = &headers[i];
    if (part->p_type == PT_LOAD && part->p_flags & PF_X && address - bias - part->p_vaddr < part->p_memsz) return true;
  }
  return false;
}

/* Whether it is libnuma's: MySQL's TempTable takes its blocks from there, not from malloc. */
static bool of_libnuma(void *address) {
  Dl_info info;
  return dladdr(address, &info) && info.dli_fname && strstr(info.dli_fname, "/libnuma.so");
}

static void *map(void *address, size_t length, int rights, int flags, int fd, off_t offset) {
  return (void *)syscall(SYS_mmap, address, length, rights, flags, fd, offset);
}

void *mmap(void *address, size_t length, int rights, int flags, int fd, off_t offset) {
  void *caller = __builtin_return_address(0);
  bool own = flags & MAP_ANONYMOUS && flags & MAP_PRIVATE && (of_program((uintptr_t)caller) || of_libnuma(caller));
  return map(address, length, rights, own ? (flags & ~MAP_PRIVATE) | MAP_SHARED : flags, fd, offset);
}

void *mmap64(void *, size_t, int, int, int, off_t) __attribute__((alias("mmap")));

int pthread_create(pthread_t *thread, const pthread_attr_t *given, void *(*run)(void *), void *argument) {
  static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
  if (!real) *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
  pthread_attr_t attributes;
  size_t size, guard;
  int detached;
  if (given ? pthread_attr_getstacksize(given, &size) : pthread_getattr_default_np(&attributes)) return EAGAIN;
  if (!given) pthread_attr_getstacksize(&attributes, &size), pthread_attr_destroy(&attributes);
  if (pthread_attr_init(&attributes)) return EAGAIN;
  if (given && !pthread_attr_getdetachstate(given, &detached)) pthread_attr_setdetachstate(&attributes, detached);
  guard = (size_t)sysconf(_SC_PAGESIZE);
  size = (size + guard - 1) / guard * guard;
  char *stack = map(NULL, guard + size, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (stack == MAP_FAILED) return EAGAIN;
  mprotect(stack + guard, size, PROT_READ | PROT_WRITE);
  pthread_attr_setstack(&attributes, stack + guard, size);
  int error = real(thread, &attributes, run, argument);
  pthread_attr_destroy(&attributes);
  return error;
}

/* The function of that name, when it is of the library whose malloc the server calls: one that it is linked with but does
 * not use has the name too. */
static void *of_malloc(const char *name) {
  Dl_info of_malloc, own;
  void *found = dlsym(RTLD_DEFAULT, name);
  if (!found || !dladdr(dlsym(RTLD_DEFAULT, "malloc"), &of_malloc) || !dladdr(found, &own)) return NULL;
  return of_malloc.dli_fbase == own.dli_fbase ? found : NULL;
}

static void purge(int signal) {
  (void)signal;
  int (*mallctl)(const char *, void *, size_t *, void *, size_t);
  void (*call)();
  const char *said;
  if ((*(void **)&mallctl = of_malloc("mallctl"))) {
    mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
    mallctl("arena.4096.purge", NULL, NULL, NULL, 0); /* MALLCTL_ARENAS_ALL */
    said = "purged by mallctl\n";
  } else if ((*(void **)&call = of_malloc("mi_collect"))) {
    ((void (*)(bool))call)(true);
    said = "purged by mi_collect\n";
  } else if ((*(void **)&call = of_malloc("MallocExtension_ReleaseFreeMemory"))) {
    ((void (*)(void))call)();
    said = "purged by ReleaseFreeMemory\n";
  } else {
    *(void **)&call = dlsym(RTLD_DEFAULT, "malloc_trim");
    ((int (*)(size_t))call)(0);
    said = "purged by malloc_trim\n";
  }
  if (write(STDERR_FILENO, said, strlen(said)) < 0) return;
}

__attribute__((constructor)) static void listen_for_purge(void) {
  struct sigaction action = {.sa_handler = purge, .sa_flags = SA_RESTART};
  sigaction(SIGRTMIN + 5, &action, NULL);
}
