/* Returns an error from start, with a reason. */
#include "probe.h"

static hot_status start(const hot_host *services, hot_slice config, void **self, hot_slice *why) {
    (void)services;
    (void)config;
    (void)self;
    *why = TEXT("the moon is in the wrong phase");
    return HOT_FAILED;
}

static void handle(void *self, hot_exchange exchange) {
    (void)self;
    answer(exchange, 200);
}

HOT_EXPORT const hot_table hot_module = {.abi = HOT_ABI, .size = sizeof(hot_table), .start = start, .handle = handle};
