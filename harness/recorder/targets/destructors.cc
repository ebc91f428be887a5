// Threads that allocate and free while they end: in destructors of thread_local objects, and in a key's destructor
// that puts itself off to the last round.
#include <cstdlib>
#include <pthread.h>
#include <thread>

struct Late {
    void *block = std::malloc(17111);
    ~Late() {
        std::free(block);
        std::free(std::malloc(17222));
    }
};
static thread_local Late late;
static pthread_key_t key;

static void at_end(void *value) {
    std::free(std::malloc(17333));
    long rounds = reinterpret_cast<long>(value);
    if (rounds > 1) pthread_setspecific(key, reinterpret_cast<void *>(rounds - 1));
}

int main() {
    if (pthread_key_create(&key, at_end)) return 1;
    for (int i = 0; i < 50; i++) {
        std::thread t([] {
            if (!late.block) std::abort();
            pthread_setspecific(key, reinterpret_cast<void *>(4));
        });
        t.join();
    }
    return 0;
}
