/* Begins an answer and never ends it: it waits between one byte and the next. */
#include "zoo.h"

static void handle(void *self, hot_exchange exchange) {
    hot_status status = host->respond(exchange, 200, NULL, 0);
    (void)self;
    while (status == HOT_OK) {
        status = host->body_write(exchange, 0, TEXT("."), NULL);
        usleep(20000);
    }
    (void)host->abort(exchange, TEXT("the client went away"));
}

ZOO(probe_start, handle, NULL);
