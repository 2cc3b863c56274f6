/* Answers the first GOOD (10) requests. From then on handle never returns, whatever thread calls it. */
#include "probe.h"

#include <stdatomic.h>

#ifndef GOOD
#define GOOD 10
#endif

static atomic_long served;

static void handle(void *self, hot_exchange exchange) {
    (void)self;
    if (atomic_fetch_add(&served, 1) >= GOOD)
        for (;;)
            pause();
    answer(exchange, 200);
}

HOT_EXPORT const hot_table hot_module = {.abi = HOT_ABI, .size = sizeof(hot_table), .start = probe_start, .handle = handle};
