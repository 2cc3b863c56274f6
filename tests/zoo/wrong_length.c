/* Of every second answer it says that it has a thousand bytes, sends four, and says that this is all. */
#include "zoo.h"

#include <stdatomic.h>

static void handle(void *self, hot_exchange exchange) {
    const hot_header length = {TEXT("content-length"), TEXT("1000")};
    static atomic_uint served;
    if (atomic_fetch_add(&served, 1) % 2 == 0) {
        zoo_handle(self, exchange);
        return;
    }
    if (host->respond(exchange, 200, &length, 1) != HOT_OK || host->body_write(exchange, 0, TEXT("four"), NULL) != HOT_OK ||
        host->finish(exchange) != HOT_OK)
        (void)host->abort(exchange, TEXT("the host wants the length that was said"));
}

ZOO(probe_start, handle, NULL);
