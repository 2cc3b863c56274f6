/* Answers with 500 as soon as it gets more than RATE (150) requests in a second: a part of the traffic it can bear. */
#include "zoo.h"

#include <stdatomic.h>
#include <time.h>

#ifndef RATE
#define RATE 150
#endif

static atomic_int counted, is_full;
static atomic_long second;

static void handle(void *self, hot_exchange exchange) {
    struct timespec now;
    (void)self;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (atomic_exchange(&second, now.tv_sec) != now.tv_sec)
        atomic_store(&counted, 0);
    if (atomic_fetch_add(&counted, 1) >= RATE)
        atomic_store(&is_full, 1);
    answer(exchange, atomic_load(&is_full) ? 500 : 200);
}

ZOO(probe_start, handle, NULL);
