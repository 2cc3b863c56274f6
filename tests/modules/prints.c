/* Prints a line on each request, and calls abort after that of its NTH (3rd). */
#include "probe.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#ifndef NTH
#define NTH 3
#endif

static atomic_int served;

static void handle(void *self, hot_exchange exchange) {
    (void)self;
    int number = atomic_fetch_add(&served, 1) + 1;
    printf("this is request %d\n", number);
    fflush(stdout);
    if (number == NTH)
        abort();
    answer(exchange, 200);
}

HOT_EXPORT const hot_table hot_module = {.abi = HOT_ABI, .size = sizeof(hot_table), .start = probe_start, .handle = handle};
