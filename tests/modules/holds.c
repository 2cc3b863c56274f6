/*
 * Holds each request until somebody asks for /NAME/go, which answers all of them. From then on it answers at once.
 */
#include "probe.h"

#include <pthread.h>
#include <string.h>

#define ROOM 65536
#define GO ROUTE "/go"

static hot_exchange held[ROOM];
static size_t count;
static int let_go;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int is_go(hot_exchange exchange) {
    hot_slice target;
    return host->target(exchange, &target) == HOT_OK && target.len == sizeof GO - 1 &&
           memcmp(target.ptr, GO, target.len) == 0;
}

static void handle(void *self, hot_exchange exchange) {
    (void)self;
    size_t first = 0;
    pthread_mutex_lock(&lock);
    let_go |= is_go(exchange);
    if (!let_go && count < ROOM) {
        held[count++] = exchange;
        pthread_mutex_unlock(&lock);
        return;
    }
    /* Nothing is added from now on. */
    size_t last = count;
    count = 0;
    pthread_mutex_unlock(&lock);
    for (; first < last; first++)
        answer(held[first], 200);
    answer(exchange, 200);
}

HOT_EXPORT const hot_table hot_module = {.abi = HOT_ABI, .size = sizeof(hot_table), .start = probe_start, .handle = handle};
