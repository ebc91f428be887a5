// Exceptions through frames that own memory; a new that fails.
#include <memory>
#include <new>
#include <stdexcept>

struct Big {
    char bytes[21111];
};

static void fail(int n) {
    auto own = std::make_unique<Big>();
    own->bytes[0] = 1;
    if (n == 0) throw std::runtime_error("as asked");
    fail(n - 1);
}

int main() {
    int caught = 0;
    for (int i = 0; i < 100; i++) {
        try {
            fail(2);
        } catch (const std::runtime_error &) {
            caught++;
        }
    }
    volatile std::size_t huge = static_cast<std::size_t>(-1) / 4;
    try {
        char *volatile never = new char[huge];
        delete[] never;
        return 1;
    } catch (const std::bad_alloc &) {
        caught++;
    }
    return caught == 101 ? 0 : 2;
}
