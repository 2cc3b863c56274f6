/* module-name: answers /module-name with a greeting, and sends back what is posted to /module-name/echo. */
#include "hot_module.h"

#include <string.h>

#define VERSION "0.1.0" /* of the module: raise it for every push */

HOT_MODULE_METADATA("module-name", VERSION, "routes = [\"/module-name\"]\n");

#define TEXT(literal) ((hot_slice){(const uint8_t *)(literal), sizeof(literal) - 1})

/* Set once, in start, before anything else is called. */
static const hot_host *host;
static hot_slice greeting = {(const uint8_t *)"hello", 5};

/* The config is the greeting; without one it is "hello". */
static hot_status start(const hot_host *services, hot_slice config, void **self, hot_slice *why) {
    (void)self; /* no state but the statics above */
    if (services->abi != HOT_ABI || !HOT_HAS(hot_host, services, abort)) {
        *why = TEXT("module-name needs a host with ABI 0 and all services up to abort");
        return HOT_FAILED;
    }
    if (memchr(config.ptr != NULL ? config.ptr : (const uint8_t *)"", '\n', config.len) != NULL) {
        *why = TEXT("the config is the greeting: found several lines, expected one");
        return HOT_FAILED;
    }
    host = services;
    if (config.len > 0)
        greeting = config; /* lives as long as the process */
    host->log(HOT_LOG_INFO, TEXT("module-name " VERSION " starts"));
    return HOT_OK;
}

static int is(hot_slice text, const char *other) {
    return text.len == strlen(other) && memcmp(text.ptr, other, text.len) == 0;
}

/* The path, without what follows the question mark. */
static hot_slice path_of(hot_slice target) {
    const uint8_t *mark = memchr(target.ptr, '?', target.len);
    if (mark != NULL)
        target.len = (size_t)(mark - target.ptr);
    return target;
}

static hot_status greet(hot_exchange exchange) {
    const hot_header type = {TEXT("content-type"), TEXT("text/plain; charset=utf-8")};
    hot_status status = host->respond(exchange, 200, &type, 1);
    if (status == HOT_OK)
        status = host->body_write(exchange, 0, greeting, NULL);
    if (status == HOT_OK)
        status = host->body_write(exchange, 0, TEXT(" from module-name " VERSION "\n"), NULL);
    return status == HOT_OK ? host->finish(exchange) : status;
}

/* Piece by piece: never more than one is in memory. */
static hot_status echo(hot_exchange exchange) {
    hot_slice piece = {NULL, 0};
    hot_status status = host->respond(exchange, 200, NULL, 0);
    while (status == HOT_OK && (status = host->body_read(exchange, 0, &piece)) == HOT_OK && piece.len > 0)
        status = host->body_write(exchange, 0, piece, NULL);
    return status == HOT_OK ? host->finish(exchange) : status;
}

/* Called from many threads at once. */
static void handle(void *self, hot_exchange exchange) {
    hot_slice target = {NULL, 0};
    hot_status status = host->target(exchange, &target);
    (void)self;
    if (status == HOT_OK && is(path_of(target), "/module-name"))
        status = greet(exchange);
    else if (status == HOT_OK && is(path_of(target), "/module-name/echo"))
        status = echo(exchange);
    else if (status == HOT_OK)
        status = host->reply(exchange, 404, NULL, 0, TEXT("there is no such page\n"));
    if (status != HOT_OK) /* the client is gone: every exchange is to be ended all the same */
        host->abort(exchange, TEXT("the answer could not be sent"));
}

HOT_EXPORT const hot_table hot_module = {
    .abi = HOT_ABI,
    .size = sizeof(hot_table),
    .start = start,
    .handle = handle,
};
