/* Sends the request's body back piece by piece as it comes. */
#include "probe.h"

static hot_status echo(hot_exchange exchange) {
    hot_status status = host->respond(exchange, 200, NULL, 0);
    while (status == HOT_OK) {
        hot_slice piece;
        status = host->body_read(exchange, 0, &piece);
        if (status == HOT_OK && piece.len == 0)
            return host->finish(exchange);
        if (status == HOT_OK)
            status = host->body_write(exchange, 0, piece, NULL);
    }
    return status;
}

static void handle(void *self, hot_exchange exchange) {
    (void)self;
    if (echo(exchange) != HOT_OK)
        (void)host->abort(exchange, TEXT("the client went away"));
}

HOT_EXPORT const hot_table hot_module = {.abi = HOT_ABI, .size = sizeof(hot_table), .start = probe_start, .handle = handle};
