/*
 * Streams to and from many clients that take their time, with one thread: GET answers with BYTES (10 MiB), POST reads the
 * body and says how long it was. Nothing here waits for a client: `wake` puts its exchange into the thread's queue.
 */
#include "probe.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#ifndef BYTES
#define BYTES (10ul << 20)
#endif
#define PIECE (16ul << 10)

struct task {
    hot_exchange exchange;
    uint32_t reads; /* else it writes */
    unsigned long done;
    struct task *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t came = PTHREAD_COND_INITIALIZER;
static struct task *first, **last = &first;
static const uint8_t piece[PIECE] = {'x'};

static void put(void *context) {
    struct task *task = context;
    task->next = NULL;
    pthread_mutex_lock(&lock);
    *last = task;
    last = &task->next;
    pthread_cond_signal(&came);
    pthread_mutex_unlock(&lock);
}

static hot_status read_some(struct task *task) {
    hot_slice got;
    hot_status status;
    while ((status = host->body_read(task->exchange, HOT_NONBLOCK, &got)) == HOT_OK && got.len > 0)
        task->done += got.len;
    if (status != HOT_OK)
        return status;
    char text[32];
    int len = snprintf(text, sizeof text, "%lu\n", task->done);
    return host->reply(task->exchange, 200, NULL, 0, (hot_slice){(const uint8_t *)text, (size_t)len});
}

static hot_status write_some(struct task *task) {
    while (task->done < BYTES) {
        unsigned long left = BYTES - task->done;
        size_t written = 0;
        hot_slice next = {piece, left < PIECE ? left : PIECE};
        hot_status status = host->body_write(task->exchange, HOT_NONBLOCK, next, &written);
        if (status != HOT_OK)
            return status;
        task->done += written;
    }
    return host->finish(task->exchange);
}

static void *serve(void *argument) {
    (void)argument;
    for (;;) {
        pthread_mutex_lock(&lock);
        while (first == NULL)
            pthread_cond_wait(&came, &lock);
        struct task *task = first;
        first = task->next;
        if (first == NULL)
            last = &first;
        pthread_mutex_unlock(&lock);
        hot_status status = task->reads ? read_some(task) : write_some(task);
        uint32_t event = task->reads ? HOT_READABLE : HOT_WRITABLE;
        if (status == HOT_WOULD_BLOCK && host->notify(task->exchange, event, put, task) == HOT_OK)
            continue;
        if (status != HOT_OK)
            (void)host->abort(task->exchange, TEXT("the client went away"));
        free(task);
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
    hot_slice method;
    struct task *task = calloc(1, sizeof *task);
    if (task == NULL || host->method(exchange, &method) != HOT_OK) {
        (void)host->abort(exchange, TEXT("no memory"));
        free(task);
        return;
    }
    const hot_header length = {TEXT("content-type"), TEXT("application/octet-stream")};
    task->exchange = exchange;
    task->reads = method.ptr[0] == 'P';
    if (!task->reads && host->respond(exchange, 200, &length, 1) != HOT_OK) {
        (void)host->abort(exchange, TEXT("the client went away"));
        free(task);
        return;
    }
    put(task);
}

HOT_EXPORT const hot_table hot_module = {.abi = HOT_ABI, .size = sizeof(hot_table), .start = start, .handle = handle};
