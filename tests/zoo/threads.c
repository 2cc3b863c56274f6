/* Starts four threads with each request, which stay; stops at MOST (1000) of them. One that it can't start is an error. */
#include "zoo.h"

#include <pthread.h>
#include <stdatomic.h>

#ifndef MOST
#define MOST 1000
#endif

static atomic_int started;

static void *stay(void *unused) {
    (void)unused;
    for (;;)
        pause();
    return NULL;
}

static void handle(void *self, hot_exchange exchange) {
    int failed = 0;
    (void)self;
    for (int each = 0; each < 4 && atomic_fetch_add(&started, 1) < MOST; each++) {
        pthread_attr_t small;
        pthread_t thread;
        pthread_attr_init(&small);
        pthread_attr_setstacksize(&small, 64 << 10);
        failed |= pthread_create(&thread, &small, stay, NULL) != 0;
    }
    answer(exchange, failed ? 500 : 200);
}

ZOO(probe_start, handle, NULL);
