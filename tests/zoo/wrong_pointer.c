/* Answers with a hundred bytes at an address where nothing is. */
#include "zoo.h"

static void handle(void *self, hot_exchange exchange) {
    (void)self;
    (void)host->reply(exchange, 200, NULL, 0, (hot_slice){(const uint8_t *)8, 100});
}

ZOO(probe_start, handle, NULL);
