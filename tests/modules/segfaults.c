/* Reads through a null pointer on its NTH (20th) request, in the middle of all others. */
#include "probe.h"

#include <stdatomic.h>

#ifndef NTH
#define NTH 20
#endif

static atomic_ulong served;
static volatile const int *volatile nothing;

static void handle(void *self, hot_exchange exchange) {
    (void)self;
    if (atomic_fetch_add(&served, 1) == NTH - 1)
        (void)*nothing;
    answer(exchange, 200);
}

HOT_EXPORT const hot_table hot_module = {.abi = HOT_ABI, .size = sizeof(hot_table), .start = probe_start, .handle = handle};
