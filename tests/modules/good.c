/* A good module, which takes START_MS (0) to start. */
#include "probe.h"

#ifndef START_MS
#define START_MS 0
#endif

static hot_status start(const hot_host *services, hot_slice config, void **self, hot_slice *why) {
    if (START_MS > 0)
        usleep(START_MS * 1000);
    return probe_start(services, config, self, why);
}

static void handle(void *self, hot_exchange exchange) {
    (void)self;
    answer(exchange, 200);
}

HOT_EXPORT const hot_table hot_module = {.abi = HOT_ABI, .size = sizeof(hot_table), .start = start, .handle = handle};
