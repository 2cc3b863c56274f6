/* Ends its process while it is being loaded, with a code that looks like success. */
#include "probe.h"

__attribute__((constructor)) static void leave(void) { _exit(0); }

static void handle(void *self, hot_exchange exchange) {
    (void)self;
    answer(exchange, 200);
}

HOT_EXPORT const hot_table hot_module = {.abi = HOT_ABI, .size = sizeof(hot_table), .start = probe_start, .handle = handle};
