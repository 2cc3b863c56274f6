/*
 * A module in C: answers /hello with a line of text, and sends back what is posted to /hello/echo, piece by piece.
 *
 *     cc -shared -fPIC -O2 -Wall -Wextra -Werror -I ../../module/include hello.c -o hello-c.so
 */
#include "hot_module.h"

#include <string.h>

HOT_MODULE_METADATA("hello-c", "1.0.0", "routes = [\"/hello\"]\n");

#define TEXT(literal) ((hot_slice){(const uint8_t *)(literal), sizeof(literal) - 1})

/* The host's services. Written once, in start, before any other call. */
static const hot_host *host;

static hot_status start(const hot_host *services, hot_slice config, void **self, hot_slice *why) {
    (void)config;
    (void)self; /* nothing but statics: this module has no state of its own */
    if (services->abi != HOT_ABI || !HOT_HAS(hot_host, services, abort)) {
        *why = TEXT("hello-c needs a host with ABI 0 and all services up to abort");
        return HOT_FAILED;
    }
    host = services;
    host->log(HOT_LOG_INFO, TEXT("hello-c 1.0.0 starts"));
    return HOT_OK;
}

/* Sends the body back as it comes: never more than one piece is in memory. */
static hot_status echo(hot_exchange exchange) {
    const hot_header type = {TEXT("content-type"), TEXT("application/octet-stream")};
    hot_status status = host->respond(exchange, 200, &type, 1);
    while (status == HOT_OK) {
        hot_slice piece;
        status = host->body_read(exchange, 0, &piece);
        if (status != HOT_OK)
            break;
        if (piece.len == 0)
            return host->finish(exchange);
        status = host->body_write(exchange, 0, piece, NULL);
    }
    return status;
}

static void handle(void *self, hot_exchange exchange) {
    (void)self;
    const hot_header type = {TEXT("content-type"), TEXT("text/plain; charset=utf-8")};
    hot_slice target;
    hot_status status = host->target(exchange, &target);
    if (status == HOT_OK && target.len == 11 && memcmp(target.ptr, "/hello/echo", 11) == 0)
        status = echo(exchange);
    else if (status == HOT_OK)
        status = host->reply(exchange, 200, &type, 1, TEXT("hello from hello-c 1.0.0\n"));
    if (status != HOT_OK)
        host->abort(exchange, TEXT("the client went away"));
}

HOT_EXPORT const hot_table hot_module = {
    .abi = HOT_ABI,
    .size = sizeof(hot_table),
    .start = start,
    .handle = handle,
};
