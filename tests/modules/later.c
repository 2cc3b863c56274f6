/* Answers each request from a thread that it starts for it, after handle has returned. */
#include "probe.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

static void *answer_later(void *argument) {
    hot_exchange exchange = *(hot_exchange *)argument;
    free(argument);
    answer(exchange, 200);
    return NULL;
}

static void handle(void *self, hot_exchange exchange) {
    (void)self;
    pthread_t thread;
    hot_exchange *argument = malloc(sizeof *argument);
    if (argument != NULL) {
        *argument = exchange;
        if (pthread_create(&thread, NULL, answer_later, argument) == 0) {
            pthread_detach(thread);
            return;
        }
        free(argument);
    }
    (void)host->abort(exchange, TEXT("no thread to answer from"));
}

HOT_EXPORT const hot_table hot_module = {.abi = HOT_ABI, .size = sizeof(hot_table), .start = probe_start, .handle = handle};
