/* Starts two processes with each request, which stay; stops at MOST (400) of them. */
#include "zoo.h"

#include <stdatomic.h>

#ifndef MOST
#define MOST 400
#endif

static atomic_int started;

static void handle(void *self, hot_exchange exchange) {
    for (int each = 0; each < 2 && atomic_fetch_add(&started, 1) < MOST; each++)
        if (fork() == 0)
            zoo_linger();
    zoo_handle(self, exchange);
}

ZOO(probe_start, handle, NULL);
