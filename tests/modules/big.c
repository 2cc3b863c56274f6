/* Answers with BYTES (64 MiB) in pieces of 64 KiB, each filled with its number's lowest byte. */
#include "probe.h"

#include <string.h>

#ifndef BYTES
#define BYTES (64ul << 20)
#endif
#define PIECE (64ul << 10)

static void handle(void *self, hot_exchange exchange) {
    (void)self;
    uint8_t piece[PIECE];
    hot_status status = host->respond(exchange, 200, NULL, 0);
    for (unsigned long sent = 0; status == HOT_OK && sent < BYTES; sent += PIECE) {
        memset(piece, (int)(sent / PIECE & 0xff), sizeof piece);
        status = host->body_write(exchange, 0, (hot_slice){piece, BYTES - sent < PIECE ? BYTES - sent : PIECE}, NULL);
    }
    if (status == HOT_OK)
        status = host->finish(exchange);
    if (status != HOT_OK)
        (void)host->abort(exchange, TEXT("the client went away"));
}

HOT_EXPORT const hot_table hot_module = {.abi = HOT_ABI, .size = sizeof(hot_table), .start = probe_start, .handle = handle};
