/*
 * Streams that last: server-sent events, or the connection where the request asks to upgrade it. Each begins with "NAME
 * VERSION", and an upgraded one sends back what comes. Asked to end, it says "bye" and ends; under /NAME/stubborn it goes on.
 *
 * One thread serves all of them: `wake` puts a stream into its queue.
 */
#include "probe.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct stream {
    hot_exchange exchange;
    int upgraded, stubborn;
    struct stream *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t came = PTHREAD_COND_INITIALIZER;
static struct stream *first, **last = &first;

static void put(void *context) {
    struct stream *stream = context;
    stream->next = NULL;
    pthread_mutex_lock(&lock);
    *last = stream;
    last = &stream->next;
    pthread_cond_signal(&came);
    pthread_mutex_unlock(&lock);
}

/* Sends back what has come. HOT_WOULD_BLOCK: the client may send more. */
static hot_status echo(hot_exchange exchange) {
    hot_slice piece;
    hot_status status;
    while ((status = host->body_read(exchange, HOT_NONBLOCK, &piece)) == HOT_OK && piece.len > 0)
        if ((status = host->body_write(exchange, 0, piece, NULL)) != HOT_OK)
            return status;
    return status;
}

/* HOT_WOULD_BLOCK: it goes on. */
static hot_status step(struct stream *stream) {
    hot_status status = stream->upgraded ? echo(stream->exchange) : HOT_WOULD_BLOCK;
    uint64_t left = UINT64_MAX;
    if (status != HOT_WOULD_BLOCK)
        return status;
    if (host->time_left(stream->exchange, &left) != HOT_OK)
        return HOT_CANCELLED;
    if (left == UINT64_MAX || stream->stubborn)
        return HOT_WOULD_BLOCK;
    return host->body_write(stream->exchange, 0, TEXT("data: bye\n\n"), NULL);
}

static void *serve(void *argument) {
    (void)argument;
    for (;;) {
        pthread_mutex_lock(&lock);
        while (first == NULL)
            pthread_cond_wait(&came, &lock);
        struct stream *stream = first;
        first = stream->next;
        if (first == NULL)
            last = &first;
        pthread_mutex_unlock(&lock);
        hot_status status = step(stream);
        uint32_t events = (stream->upgraded ? HOT_READABLE : 0) | (stream->stubborn ? 0 : HOT_ENDING);
        if (status == HOT_WOULD_BLOCK && host->notify(stream->exchange, events, put, stream) == HOT_OK)
            continue;
        if (status == HOT_OK)
            (void)host->finish(stream->exchange);
        else
            (void)host->abort(stream->exchange, TEXT("cut off"));
        free(stream);
    }
    return NULL;
}

static hot_status start(const hot_host *services, hot_slice config, void **self, hot_slice *why) {
    pthread_t thread;
    hot_status status = probe_start(services, config, self, why);
    return status == HOT_OK && pthread_create(&thread, NULL, serve, NULL) != 0 ? HOT_FAILED : status;
}

static void handle(void *self, hot_exchange exchange) {
    (void)self;
    const hot_header type = {TEXT("content-type"), TEXT("text/event-stream")};
    hot_slice target, protocol;
    struct stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL || host->target(exchange, &target) != HOT_OK)
        goto failed;
    stream->exchange = exchange;
    stream->stubborn = target.len >= 8 && memcmp(target.ptr + target.len - 8, "stubborn", 8) == 0;
    stream->upgraded = host->header(exchange, TEXT("upgrade"), &protocol) == HOT_OK;
    if (host->respond(exchange, stream->upgraded ? 101 : 200, &type, stream->upgraded ? 0 : 1) != HOT_OK ||
        host->body_write(exchange, 0, TEXT("data: " NAME " " VERSION "\n\n"), NULL) != HOT_OK)
        goto failed;
    put(stream);
    return;
failed:
    (void)host->abort(exchange, TEXT("cut off"));
    free(stream);
}

HOT_EXPORT const hot_table hot_module = {.abi = HOT_ABI, .size = sizeof(hot_table), .start = start, .handle = handle};
