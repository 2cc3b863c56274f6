/* Burns 400 ms of a core over each request. */
#include "zoo.h"

#include <time.h>

static void handle(void *self, hot_exchange exchange) {
    struct timespec used, first;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &first);
    do
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    while ((used.tv_sec - first.tv_sec) * 1000 + (used.tv_nsec - first.tv_nsec) / 1000000 < 400);
    zoo_handle(self, exchange);
}

ZOO(probe_start, handle, NULL);
