// Throws an exception of C++ out of its handle on its 20th request.
#include <stdexcept>

#include "probe.h"

static unsigned long served;

static void handle(void *, hot_exchange exchange) {
    if (__atomic_fetch_add(&served, 1, __ATOMIC_RELAXED) == 19)
        throw std::runtime_error("nobody catches this");
    answer(exchange, 200);
}

extern "C" {
__attribute__((visibility("default"), used)) extern const hot_table hot_module = {
    HOT_ABI, sizeof(hot_table), probe_start, handle, nullptr, nullptr, nullptr, nullptr};
}
