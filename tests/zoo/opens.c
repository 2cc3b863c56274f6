/* Opens 256 descriptors with each request and closes none. Once it gets no more, every second request fails. */
#include "zoo.h"

#include <stdatomic.h>

static void handle(void *self, hot_exchange exchange) {
    static atomic_uint served;
    int failed = 0;
    (void)self;
    for (int each = 0; each < 256; each++)
        failed |= open("/dev/null", O_RDONLY) < 0;
    answer(exchange, failed && atomic_fetch_add(&served, 1) % 2 == 0 ? 500 : 200);
}

ZOO(probe_start, handle, NULL);
