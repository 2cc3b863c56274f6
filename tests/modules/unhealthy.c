/*
 * Answers every request well, and says that it is not healthy from the AFTER-th (2nd) check on; with SICK (a file) only
 * while that file is there.
 */
#include "probe.h"

#ifndef AFTER
#define AFTER 2
#endif

static hot_status health(void *self, hot_slice *why) {
    static unsigned checks; /* the host never makes two checks at a time */
    (void)self;
    if (++checks < AFTER)
        return HOT_OK;
#ifdef SICK
    if (access(SICK, F_OK) != 0)
        return HOT_OK;
#endif
    *why = TEXT("the disk feels warm");
    return HOT_FAILED;
}

static void handle(void *self, hot_exchange exchange) {
    (void)self;
    answer(exchange, 200);
}

HOT_EXPORT const hot_table hot_module = {
    .abi = HOT_ABI, .size = sizeof(hot_table), .start = probe_start, .handle = handle, .health = health};
