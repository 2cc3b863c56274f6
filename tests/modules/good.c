/* A good module. */
#include "probe.h"

static void handle(void *self, hot_exchange exchange) {
    (void)self;
    answer(exchange, 200);
}

HOT_EXPORT const hot_table hot_module = {.abi = HOT_ABI, .size = sizeof(hot_table), .start = probe_start, .handle = handle};
