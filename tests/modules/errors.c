/* Answers one request of EVERY (2) with 500. Its health is fine. */
#include "probe.h"

#include <stdatomic.h>

#ifndef EVERY
#define EVERY 2
#endif

static atomic_ulong served;

static void handle(void *self, hot_exchange exchange) {
    (void)self;
    answer(exchange, atomic_fetch_add(&served, 1) % EVERY == EVERY - 1 ? 500 : 200);
}

HOT_EXPORT const hot_table hot_module = {.abi = HOT_ABI, .size = sizeof(hot_table), .start = probe_start, .handle = handle};
