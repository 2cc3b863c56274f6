/* Opens 256 descriptors with each request and closes none. Once it gets no more it can't do what it was asked for. */
#include "zoo.h"

static void handle(void *self, hot_exchange exchange) {
    int failed = 0;
    (void)self;
    for (int each = 0; each < 256; each++)
        failed |= open("/dev/null", O_RDONLY) < 0;
    answer(exchange, failed ? 500 : 200);
}

ZOO(probe_start, handle, NULL);
