/* Answers with 1 KiB that begins with its version: `VERSION`, a line's end, then `x`. */
#include "probe.h"

static uint8_t body[1024] = VERSION "\n";

static hot_status start(const hot_host *services, hot_slice config, void **self, hot_slice *why) {
    for (unsigned at = sizeof VERSION; at < sizeof body; at++)
        body[at] = 'x';
    return probe_start(services, config, self, why);
}

static void handle(void *self, hot_exchange exchange) {
    (void)self;
    const hot_header type = {TEXT("content-type"), TEXT("application/octet-stream")};
    (void)host->reply(exchange, 200, &type, 1, (hot_slice){body, sizeof body});
}

HOT_EXPORT const hot_table hot_module = {.abi = HOT_ABI, .size = sizeof(hot_table), .start = start, .handle = handle};
