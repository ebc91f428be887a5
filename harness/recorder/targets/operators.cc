// Each form of new and delete, with sizes that occur nowhere else.
#include <cstdlib>
#include <new>

struct alignas(256) Wide {
    char bytes[28160];
};

int main() {
    char *volatile p = static_cast<char *>(::operator new(28111));
    ::operator delete(p);
    p = new char[28112];
    delete[] p;
    p = new (std::nothrow) char[28113];
    delete[] p;
    Wide *volatile w = new Wide;
    delete w;
    try {
        p = static_cast<char *>(::operator new(static_cast<std::size_t>(-1) / 2));
        return 1;
    } catch (const std::bad_alloc &) {
    }
    std::free(std::malloc(28114));
    return 0;
}
