/*
 * Uses every function of the contract in every order that it may, and reports of each step how it was answered
 * (steps.def). The path chooses what. It must pass with the real host (host/tests/conformance.rs plays the gateway to it),
 * behind a real node (tests/tests/conformance.rs) and under hot_testing.h (module/tests/testing/contract.c).
 */
#include "steps.h"

#include <semaphore.h>
#include <stdlib.h>

#ifndef NAME
#define NAME "conforms"
#endif
HOT_MODULE_METADATA(NAME, "1.0.0", "routes = [\"/" NAME "\"]\n");

/* What a `wake` tells: a semaphore, and how often it came. */
typedef struct {
    sem_t sem;
    int times;
} bell;

static void ring(void *context) {
    bell *b = context;
    __atomic_add_fetch(&b->times, 1, __ATOMIC_SEQ_CST);
    sem_post(&b->sem);
}

static void wait_for(bell *b) {
    while (sem_wait(&b->sem) != 0)
        ;
}

static int rung(bell *b) { return __atomic_load_n(&b->times, __ATOMIC_SEQ_CST); }

static void run(void *(*body)(void *), hot_exchange x) {
    pthread_t thread;
    pthread_create(&thread, NULL, body, (void *)(uintptr_t)x);
    pthread_detach(thread);
}

static void count(void) {
    hot_header label = {TEXT("path"), TEXT("whole")}, two[2] = {{TEXT("b"), TEXT("2")}, {TEXT("a"), TEXT("1")}};
    step("metric_counter", host->metric(HOT_COUNTER, TEXT("conforms_total"), &label, 1, 1.5));
    step("metric_counter_again", host->metric(HOT_COUNTER, TEXT("conforms_total"), &label, 1, 1));
    step("metric_gauge", host->metric(HOT_GAUGE, TEXT("conforms_level"), two, 2, -3));
    step("metric_histogram", host->metric(HOT_HISTOGRAM, TEXT("conforms_seconds"), NULL, 0, 0.3));
}

/* The config that `start` was given. */
static hot_slice given;

static void whole(hot_exchange x) {
    hot_slice method, target, peer, found, body;
    const hot_header *headers, *trailers;
    size_t number, none = 9;
    uint64_t left = 0;
    step("method", host->method(x, &method));
    step("method_says", is(method, "GET"));
    step("target", host->target(x, &target));
    step("target_says", is(target, "/conforms/whole?a=b"));
    step("peer", host->peer(x, &peer));
    step("peer_says", peer.len > 0);
    step("headers", host->headers(x, &headers, &number));
    step("headers_are_lower", number > 0 && headers[0].name.len > 0);
    step("header_in_any_case", host->header(x, TEXT("X-TEST"), &found));
    step("header_says", is(found, "yes"));
    step("header_absent", host->header(x, TEXT("x-none"), &found));
    step("time_left", host->time_left(x, &left));
    step("time_left_says", left > 0);
    step("now", host->now() > 1600000000ull * 1000000000ull);
    step("config", host->config().ptr == given.ptr && host->config().len == given.len);
    for (uint32_t level = HOT_LOG_ERROR; level <= HOT_LOG_DEBUG; level++)
        host->log(level, TEXT("conforms"));
    host->log(HOT_LOG_INFO, NOTHING);
    step("body_too_large", host->body_all(x, 3, &body));
    step("body_all", host->body_all(x, 100, &body));
    step("body_all_says", is(body, "some body"));
    step("body_all_again", host->body_all(x, 0, &found));
    step("body_all_again_is_empty", (long)found.len);
    step("body_read_at_the_end", host->body_read(x, 0, &found));
    step("no_trailers", host->request_trailers(x, &trailers, &none));
    step("no_trailers_say", (long)none);
    count();
    hot_header own[2] = {{TEXT("content-type"), TEXT("text/plain")}, {TEXT("X-Own"), TEXT("")}};
    step("reply", host->reply(x, 201, own, 2, body));
    step("lent_until_handle_returns", is(target, "/conforms/whole?a=b") && is(body, "some body"));
}

/* Reads and writes in turns, with trailers both ways. */
static void stream(hot_exchange x) {
    hot_slice piece;
    size_t written = 0, number = 0;
    const hot_header *trailers;
    hot_status status;
    hot_header announced = {TEXT("trailer"), TEXT("x-sum")}, own = {TEXT("x-sum"), TEXT("6")};
    step("stream_respond", host->respond(x, 200, &announced, 1));
    step("stream_empty_write", host->body_write(x, 0, NOTHING, NULL));
    while ((status = host->body_read(x, 0, &piece)) == HOT_OK && piece.len > 0)
        if ((status = host->body_write(x, 0, piece, &written)) != HOT_OK || written != piece.len)
            break;
    step("stream_body", status);
    step("stream_trailers", host->request_trailers(x, &trailers, &number));
    step("stream_trailers_say", number == 1 && is(trailers[0].name, "x-came") && is(trailers[0].value, "1"));
    step("stream_own_trailers", host->trailers(x, &own, 1));
    step("stream_write_behind_trailers", host->body_write(x, 0, TEXT("!"), NULL));
    step("stream_finish", host->finish(x));
}

/* More than the kernel keeps for a client that does not read, on the way through a gateway. */
#define MUCH 8000000

/* As an async runtime would: nothing waits but for the bell. */
static void *nonblocking(void *argument) {
    hot_exchange x = (hot_exchange)(uintptr_t)argument;
    bell in = {.times = 0}, out = {.times = 0};
    sem_init(&in.sem, 0, 0), sem_init(&out.sem, 0, 0);
    hot_slice piece;
    size_t written, read = 0, sent = 0, blocked = 0;
    uint8_t *bytes = calloc(1, MUCH);
    step("async_nothing_yet", host->body_read(x, HOT_NONBLOCK, &piece));
    step("async_notify_readable", host->notify(x, HOT_READABLE, ring, &in));
    step("async_notify_early", host->notify(x, HOT_WRITABLE, ring, &out));
    step("async_before_the_head_is_writable", rung(&out));
    wait_for(&out);
    step("async_ready", host->respond(x, 200, NULL, 0));
    for (hot_status status = HOT_OK;;) {
        wait_for(&in);
        while ((status = host->body_read(x, HOT_NONBLOCK, &piece)) == HOT_OK && piece.len > 0)
            read += piece.len;
        if (status != HOT_WOULD_BLOCK)
            break;
        if (host->notify(x, HOT_READABLE, ring, &in) != HOT_OK)
            break;
    }
    step("async_read", (long)read);
    step("async_wakes_once_each", rung(&in) >= 1);
    while (sent < MUCH) {
        hot_slice rest = {bytes + sent, MUCH - sent};
        hot_status status = host->body_write(x, HOT_NONBLOCK, rest, &written);
        if (status == HOT_OK)
            sent += written;
        else if (status == HOT_WOULD_BLOCK && host->notify(x, HOT_WRITABLE, ring, &out) == HOT_OK) {
            if (blocked++ == 0)
                step("async_write_would_block", sent >= 262144);
            wait_for(&out);
        } else
            break;
    }
    step("async_write", (long)sent);
    step("async_wakes_as_often_as_asked", (size_t)rung(&out) == blocked + 1);
    step("async_finish_elsewhere", host->finish(x));
    free(bytes);
    return NULL;
}

#define UNREAD 200000

/* Answers, without ever waiting in a call, while the gateway reads nothing: many of these at once fill its link. None of
   them sends as much as its own exchange has room for. */
static void *unread(void *argument) {
    hot_exchange x = (hot_exchange)(uintptr_t)argument;
    bell out = {.times = 0};
    sem_init(&out.sem, 0, 0);
    uint8_t *bytes = malloc(UNREAD);
    for (size_t i = 0; i < UNREAD; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 256);
    size_t sent = 0, written, has_waited = 0;
    hot_status status = host->respond(x, 200, NULL, 0);
    step("unread_respond", status);
    while (sent < UNREAD && status == HOT_OK) {
        size_t most = UNREAD - sent < 20000 ? UNREAD - sent : 20000;
        status = host->body_write(x, HOT_NONBLOCK, (hot_slice){bytes + sent, most}, &written);
        if (status == HOT_OK) {
            sent += written;
            continue;
        }
        if (has_waited++ == 0)
            step("unread_has_no_room", status);
        status = host->notify(x, HOT_WRITABLE, ring, &out);
        step("unread_notify", status);
        if (status == HOT_OK)
            wait_for(&out);
    }
    free(bytes);
    step("unread_write", (long)sent);
    step("unread_finish", host->finish(x));
    return NULL;
}

/* Waits in a call for the gateway to read, until it gives the exchange up. */
static void unread_waiting(hot_exchange x) {
    static const uint8_t bytes[20000];
    hot_status status = host->respond(x, 200, NULL, 0);
    step("unread_waiting_respond", status);
    while (status == HOT_OK)
        status = host->body_write(x, 0, (hot_slice){bytes, sizeof bytes}, NULL);
    step("unread_waiting_is_cancelled", status);
    step("unread_waiting_abort", host->abort(x, NOTHING));
}

static void *reply_elsewhere(void *argument) {
    step("reply_elsewhere", host->reply((hot_exchange)(uintptr_t)argument, 200, NULL, 0, TEXT("later")));
    return NULL;
}

static void abort_in(hot_exchange x, const char *state) {
    hot_slice piece;
    if (strcmp(state, "body") == 0) {
        step("abort_respond", host->respond(x, 200, NULL, 0));
        step("abort_write", host->body_write(x, 0, TEXT("part"), NULL));
        step("abort_in_the_body", host->abort(x, TEXT("in the body")));
    } else if (strcmp(state, "trailers") == 0) {
        step("abort_trailers_respond", host->respond(x, 200, NULL, 0));
        step("abort_trailers", host->trailers(x, NULL, 0));
        step("abort_behind_trailers", host->abort(x, NOTHING));
    } else {
        step("abort_read", host->body_read(x, 0, &piece));
        step("abort_while_waiting", host->abort(x, TEXT("while waiting")));
    }
}

/* Waits for the end that others make: the client's going or the deadline. */
static void *given_up(void *argument) {
    hot_exchange x = (hot_exchange)(uintptr_t)argument;
    bell gone = {.times = 0}, reader = {.times = 0}, first = {.times = 0}, ending = {.times = 0}, any = {.times = 0};
    sem_init(&gone.sem, 0, 0), sem_init(&reader.sem, 0, 0), sem_init(&first.sem, 0, 0);
    sem_init(&ending.sem, 0, 0), sem_init(&any.sem, 0, 0);
    hot_slice piece;
    step("given_up_notify", host->notify(x, 0, ring, &gone));
    step("given_up_replaced", host->notify(x, HOT_READABLE, ring, &first));
    step("given_up_replaces", host->notify(x, HOT_READABLE, ring, &reader));
    step("given_up_notify_ending", host->notify(x, HOT_ENDING, ring, &ending));
    step("given_up_notify_any", host->notify(x, HOT_READABLE | HOT_ENDING, ring, &any));
    step("given_up_the_replaced_is_woken", rung(&first));
    step("given_up_no_other_is", rung(&gone) + rung(&reader) + rung(&ending) + rung(&any));
    hot_slice target;
    step("given_up_target", host->target(x, &target));
    wait_for(&gone);
    wait_for(&reader);
    wait_for(&ending);
    wait_for(&any);
    step("given_up_read", host->body_read(x, HOT_NONBLOCK, &piece));
    step("given_up_write", host->body_write(x, 0, TEXT("late"), NULL));
    step("given_up_respond", host->respond(x, 200, NULL, 0));
    step("given_up_no_more_notices", host->notify(x, 0, ring, &gone));
    step("given_up_lent_bytes_stay", target.len > 0 && target.ptr[0] == '/');
    step("given_up_finish", host->finish(x));
    step("given_up_woken_once", rung(&gone) + rung(&reader) + rung(&ending) + rung(&any));
    return NULL;
}

static void handle(void *self, hot_exchange x) {
    (void)self;
    hot_slice target;
    host->target(x, &target);
    if (target.len < sizeof "/" NAME "/" || is(target, "/" NAME "/report")) {
        tell_report(x);
        return;
    }
    target.ptr += sizeof "/" NAME "/" - 1, target.len -= sizeof "/" NAME "/" - 1;
    if (is(target, "whole?a=b"))
        whole(x);
    else if (is(target, "stream"))
        stream(x);
    else if (is(target, "async"))
        run(nonblocking, x);
    else if (is(target, "later"))
        run(reply_elsewhere, x);
    else if (is(target, "abort-waiting"))
        abort_in(x, "waiting");
    else if (is(target, "abort-body"))
        abort_in(x, "body");
    else if (is(target, "abort-trailers"))
        abort_in(x, "trailers");
    else if (is(target, "given-up"))
        run(given_up, x);
    else if (is(target, "unread"))
        run(unread, x);
    else if (is(target, "unread-waiting"))
        unread_waiting(x);
    else
        host->reply(x, 404, NULL, 0, NOTHING);
}

static hot_status start(const hot_host *services, hot_slice config, void **self, hot_slice *why) {
    (void)why;
    if (!HOT_HAS(hot_host, services, notify) || !HOT_HAS(hot_host, services, metric))
        return HOT_FAILED;
    host = services;
    *self = NULL;
    given = config;
    step("start_has_its_config", config.ptr == host->config().ptr && config.len == host->config().len);
    step("start_counts", host->metric(HOT_COUNTER, TEXT("conforms_starts_total"), NULL, 0, 1));
    return HOT_OK;
}

static hot_status health(void *self, hot_slice *why) {
    (void)self, (void)why;
    return HOT_OK;
}

static void stop(void *self) {
    (void)self;
    int counted = host->metric(HOT_COUNTER, TEXT("conforms_stops_total"), NULL, 0, 1);
    printf("stop: %s\n", counted == HOT_OK && host->now() > 0 ? "ok" : "FAILED");
}

HOT_EXPORT const hot_table hot_module = {HOT_ABI, sizeof(hot_table), start, handle, health, NULL, NULL, stop};
