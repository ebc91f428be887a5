// The operators of an allocator like chained.c, with which it is linked: they call nothing that is exported.
#include <cstddef>
#include <new>
#include <sys/mman.h>

static void *take(std::size_t size, std::size_t align) {
    if (size > (std::size_t{1} << 40)) throw std::bad_alloc();
    void *p = mmap(nullptr, size + align + 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    std::size_t at = (reinterpret_cast<std::size_t>(p) + 16 + align - 1) & -align;
    *reinterpret_cast<std::size_t *>(at - 16) = size;
    return reinterpret_cast<void *>(at);
}
void *operator new(std::size_t n) { return take(n, 16); }
void *operator new[](std::size_t n) { return take(n, 16); }
void *operator new[](std::size_t n, const std::nothrow_t &) noexcept { return take(n, 16); }
void *operator new(std::size_t n, std::align_val_t a) { return take(n, static_cast<std::size_t>(a)); }
void operator delete(void *) noexcept {}
void operator delete[](void *) noexcept {}
void operator delete(void *, std::size_t) noexcept {}
void operator delete[](void *, std::size_t) noexcept {}
void operator delete(void *, std::size_t, std::align_val_t) noexcept {}
void operator delete(void *, std::align_val_t) noexcept {}
