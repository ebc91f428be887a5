/* Says which library owns malloc and what the allocator in place answers about itself. */
#include "check.h"

static void *at(const char *name) { return dlsym(RTLD_DEFAULT, name); }

int main(void) {
    Dl_info owner;
    CHECK(dladdr((void *)malloc, &owner) != 0);
    printf("malloc in %s\n", owner.dli_fname);
    int (*mallctl)(const char *, void *, size_t *, void *, size_t) = at("mallctl");
    int (*mi_version)(void) = at("mi_version");
    const char *(*tc_version)(int *, int *, const char **) = at("tc_version");
    const char *(*null_version)(void) = at("fragbench_null_version");
    if (mallctl) {
        const char *version;
        ssize_t decay;
        size_t room = sizeof version;
        free(malloc(1));
        CHECK(mallctl("version", &version, &room, NULL, 0) == 0);
        room = sizeof decay;
        CHECK(mallctl("opt.dirty_decay_ms", &decay, &room, NULL, 0) == 0);
        printf("jemalloc %s dirty_decay_ms:%zd\n", version, decay);
        if (getenv("OURS")) {
            uint64_t epoch = 1;
            size_t allocated = 0, mib[3], depth = 3;
            room = sizeof allocated;
            CHECK(mallctl("epoch", NULL, NULL, &epoch, sizeof epoch) == 0);
            CHECK(mallctl("stats.allocated", &allocated, &room, NULL, 0) == 0 && allocated > 0);
            int (*to_mib)(const char *, size_t *, size_t *) = at("mallctlnametomib");
            int (*by_mib)(const size_t *, size_t, void *, size_t *, void *, size_t) = at("mallctlbymib");
            CHECK(to_mib && by_mib && to_mib("stats.active", mib, &depth) == 0);
            CHECK(by_mib(mib, depth, &allocated, &room, NULL, 0) == 0 && allocated > 0);
            CHECK(mallctl("arena.4096.purge", NULL, NULL, NULL, 0) == 0 && at("malloc_stats_print"));
        }
    }
    if (mi_version) {
        enum { PURGE_DELAY = 15 }; /* mi_option_purge_delay in versions 2.1 to 3.3 */
        long (*option)(int) = at("mi_option_get");
        void (*collect)(_Bool) = at("mi_collect");
        CHECK(option && collect && at("mi_process_info") && at("mi_stats_print_out"));
        if (getenv("OURS")) CHECK(at("mi_stats_get_json") && at("mi_stats_get") && at("mi_option_set"));
        collect(1);
        printf("mimalloc %d purge_delay:%ld\n", mi_version(), option(PURGE_DELAY));
    }
    if (tc_version) {
        int major, minor;
        const char *patch;
        printf("tcmalloc %s\n", tc_version(&major, &minor, &patch));
    }
    if (null_version) {
        uint64_t (*mapped)(void) = at("fragbench_null_mapped_bytes");
        uint64_t before = mapped();
        *(volatile char *)malloc(1u << 30) = 1;
        CHECK(mapped() - before >= 1u << 30);
        printf("null %s\n", null_version());
    }
    return 0;
}
