/*
 * Answers each request DELAY_MS (300) after it came, from a thread of its own, so that any number of them wait side by
 * side: slow, and nothing else.
 */
#include "probe.h"

#include <pthread.h>
#include <time.h>

#ifndef DELAY_MS
#define DELAY_MS 300
#endif

/* Exchanges in the order of their arrival, which is the order in which they are due. */
#define ROOM 65536
static struct {
    hot_exchange exchange;
    struct timespec due;
} waiting[ROOM];
static size_t first, count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t arrived = PTHREAD_COND_INITIALIZER;

static void *answer_late(void *unused) {
    (void)unused;
    for (;;) {
        pthread_mutex_lock(&lock);
        while (count == 0)
            pthread_cond_wait(&arrived, &lock);
        hot_exchange exchange = waiting[first].exchange;
        struct timespec due = waiting[first].due;
        first = (first + 1) % ROOM;
        count--;
        pthread_mutex_unlock(&lock);
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
        answer(exchange, 200);
    }
    return NULL;
}

static hot_status start(const hot_host *services, hot_slice config, void **self, hot_slice *why) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, answer_late, NULL) != 0)
        return HOT_FAILED;
    pthread_detach(thread);
    return probe_start(services, config, self, why);
}

static void handle(void *self, hot_exchange exchange) {
    (void)self;
    pthread_mutex_lock(&lock);
    if (count < ROOM) {
        size_t last = (first + count++) % ROOM;
        waiting[last].exchange = exchange;
        clock_gettime(CLOCK_MONOTONIC, &waiting[last].due);
        waiting[last].due.tv_nsec += DELAY_MS * 1000000L;
        waiting[last].due.tv_sec += waiting[last].due.tv_nsec / 1000000000L;
        waiting[last].due.tv_nsec %= 1000000000L;
        pthread_cond_signal(&arrived);
    } else {
        (void)host->abort(exchange, TEXT("no room to wait"));
    }
    pthread_mutex_unlock(&lock);
}

HOT_EXPORT const hot_table hot_module = {.abi = HOT_ABI, .size = sizeof(hot_table), .start = start, .handle = handle};
