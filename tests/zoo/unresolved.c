/* Calls a function that is nowhere. */
#include "zoo.h"

extern void nowhere(void);

static void handle(void *self, hot_exchange exchange) {
    nowhere();
    zoo_handle(self, exchange);
}

ZOO(probe_start, handle, NULL);
