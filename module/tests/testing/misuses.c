/* A module that breaks the contract: the path of a request says how. test.c drives it. */
#include "hot_module.h"

#include <pthread.h>
#include <string.h>

HOT_MODULE_METADATA("misuses", "1.0.0", "routes = [\"/\"]\n");

#define TEXT(literal) ((hot_slice){(const uint8_t *)(literal), sizeof(literal) - 1})
#define NONE ((hot_slice){NULL, 0})

static const hot_host *host;
static char reason[] = "a cold";
static pthread_t waiter;

static hot_status start(const hot_host *services, hot_slice config, void **self, hot_slice *why) {
    (void)self;
    host = services;
    if (config.len == 4 && memcmp(config.ptr, "mute", 4) == 0)
        return HOT_FAILED;
    if (config.len == 3 && memcmp(config.ptr, "odd", 3) == 0) {
        *why = TEXT("odd");
        return HOT_STATE;
    }
    return HOT_OK;
}

static int begins(hot_slice target, const char *path) {
    return target.len >= strlen(path) && memcmp(target.ptr, path, strlen(path)) == 0;
}

static int is(hot_slice target, const char *path) { return target.len == strlen(path) && begins(target, path); }

static void wake_that_calls(void *context) { host->log(HOT_LOG_INFO, *(const hot_slice *)context); }

static void *wait_for_body(void *context) {
    const hot_exchange exchange = *(const hot_exchange *)context;
    hot_slice piece;
    while (host->body_read(exchange, 0, &piece) == HOT_OK && piece.len > 0) {}
    return NULL;
}

static void headers(hot_exchange exchange, hot_slice name, hot_slice value) {
    const hot_header header = {name, value};
    host->reply(exchange, 200, &header, 1, NONE);
    host->reply(exchange, 200, NULL, 0, NONE);
}

static void endings(hot_exchange x, hot_slice target) {
    if (is(target, "/twice")) {
        host->reply(x, 200, NULL, 0, NONE);
        host->finish(x);
    } else if (is(target, "/late")) {
        hot_slice method;
        host->abort(x, TEXT("enough"));
        host->method(x, &method);
    } else if (is(target, "/made-up")) {
        host->finish(4711);
        host->reply(x, 200, NULL, 0, NONE);
    } else if (is(target, "/short") || is(target, "/promised")) {
        const hot_header length = {TEXT("Content-Length"), TEXT("5")};
        host->reply(x, 200, &length, 1, is(target, "/short") ? TEXT("four") : TEXT("fives"));
    } else if (is(target, "/endless")) {
        static const uint8_t much[1 << 20];
        const hot_slice body = {much, sizeof much};
        host->respond(x, 200, NULL, 0);
        while (host->body_write(x, 0, body, NULL) == HOT_OK) {}
        host->abort(x, NONE);
    }
    /* /never does nothing. */
}

static void order(hot_exchange x, hot_slice target) {
    const hot_header trailer = {TEXT("x-sum"), TEXT("1")};
    const hot_header *trailers;
    size_t count;
    if (is(target, "/order/body"))
        host->body_write(x, 0, TEXT("early"), NULL);
    if (is(target, "/order/finish"))
        host->finish(x);
    if (is(target, "/order/request-trailers"))
        host->request_trailers(x, &trailers, &count);
    host->respond(x, 200, NULL, 0);
    if (is(target, "/order/head"))
        host->respond(x, 200, NULL, 0);
    host->trailers(x, &trailer, 1);
    if (is(target, "/order/trailers"))
        host->trailers(x, &trailer, 1);
    host->finish(x);
}

static void arguments(hot_exchange x, hot_slice target) {
    hot_slice piece;
    if (is(target, "/reason"))
        reason[0] = 'b';
    if (is(target, "/null/out"))
        host->target(x, NULL);
    if (is(target, "/null/body"))
        host->reply(x, 200, NULL, 0, (hot_slice){NULL, 3});
    if (is(target, "/null/written"))
        host->body_write(x, HOT_NONBLOCK, NONE, NULL);
    if (is(target, "/null/wake"))
        host->notify(x, HOT_READABLE, NULL, NULL);
    if (is(target, "/flag"))
        host->body_read(x, 8, &piece);
    if (is(target, "/event"))
        host->notify(x, 8, wake_that_calls, NULL);
    if (is(target, "/level"))
        host->log(9, TEXT("x"));
    if (is(target, "/status"))
        host->reply(x, 99, NULL, 0, NONE);
    if (is(target, "/kind"))
        host->metric(9, TEXT("a"), NULL, 0, 1);
    if (is(target, "/metric"))
        host->metric(HOT_COUNTER, TEXT("a b"), NULL, 0, 1);
    if (is(target, "/negative"))
        host->metric(HOT_COUNTER, TEXT("a"), NULL, 0, -1);
    if (is(target, "/histogram"))
        host->metric(HOT_HISTOGRAM, TEXT("took"), NULL, 0, 1);
    if (is(target, "/histogram/part"))
        host->metric(HOT_COUNTER, TEXT("took_count"), NULL, 0, 1);
    if (is(target, "/counter"))
        host->metric(HOT_COUNTER, TEXT("left_sum"), NULL, 0, 1);
    if (is(target, "/counter/whole"))
        host->metric(HOT_HISTOGRAM, TEXT("left"), NULL, 0, 1);
    if (is(target, "/label")) {
        const hot_header label = {TEXT("version"), TEXT("1")};
        host->metric(HOT_COUNTER, TEXT("a"), &label, 1, 1);
    }
    if (is(target, "/many")) {
        static const hot_header many[129];
        if (host->respond(x, 200, many, 129) != HOT_TOO_LARGE)
            return;
    }
    host->reply(x, 200, NULL, 0, NONE);
}

/* The connection of an upgraded request, and what may not be done with it. */
static void upgraded(hot_exchange x, hot_slice target) {
    const hot_header fields[] = {{TEXT("Upgrade"), TEXT("two")}, {TEXT("content-length"), TEXT("0")}};
    const hot_header *trailers;
    hot_slice piece = NONE;
    size_t count;
    if (is(target, "/upgrade/reply"))
        host->reply(x, 101, NULL, 0, NONE);
    if (is(target, "/upgrade/length"))
        host->respond(x, 101, fields, 2);
    if (is(target, "/upgrade/other"))
        host->respond(x, 200, fields, 1);
    /* Before the 101 the request has no body, whatever the client has sent already. */
    if (host->body_read(x, HOT_NONBLOCK, &piece) != HOT_OK || piece.len != 0 || host->body_all(x, 0, &piece) != HOT_OK)
        return;
    if (host->respond(x, 101, fields, is(target, "/upgrade/choose") ? 1 : 0) != HOT_OK) {
        host->reply(x, 400, NULL, 0, NONE);
        return;
    }
    if (is(target, "/upgrade/trailers"))
        host->trailers(x, fields, 0);
    while (host->body_read(x, 0, &piece) == HOT_OK && piece.len > 0)
        host->body_write(x, 0, piece, NULL);
    if (is(target, "/upgrade/request-trailers"))
        host->request_trailers(x, &trailers, &count);
    host->finish(x);
}

static pthread_mutex_t bell = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t rung = PTHREAD_COND_INITIALIZER;
static int rings;

static void ring(void *context) {
    (void)context;
    pthread_mutex_lock(&bell);
    rings++;
    pthread_cond_signal(&rung);
    pthread_mutex_unlock(&bell);
}

/* Server-sent events: one that the time is without end, and one that an end is asked for. */
static void events(hot_exchange x, hot_slice target) {
    const hot_header kind = {TEXT("Content-Type"), TEXT(" Text/Event-Stream; charset=utf-8")};
    uint64_t before = 0, after = 0;
    rings = 0;
    host->time_left(x, &before);
    host->respond(x, 200, &kind, 1);
    host->time_left(x, &after);
    host->body_write(x, 0, before < UINT64_MAX && after == UINT64_MAX ? TEXT("endless\n") : TEXT("bounded\n"), NULL);
    if (is(target, "/events/deaf")) {
        hot_slice piece;
        while (host->body_read(x, 0, &piece) == HOT_OK && piece.len > 0) {}
        while (host->body_write(x, 0, TEXT("more\n"), NULL) == HOT_OK) {}
        host->abort(x, NONE);
        return;
    }
    host->notify(x, HOT_ENDING, ring, NULL);
    pthread_mutex_lock(&bell);
    while (rings == 0)
        pthread_cond_wait(&rung, &bell);
    pthread_mutex_unlock(&bell);
    host->time_left(x, &after);
    host->body_write(x, 0, after <= 5000000000u ? TEXT("bye\n") : TEXT("no end\n"), NULL);
    host->finish(x);
}

/* The clock stands still for a body that has not come, and not behind it. */
static void times(hot_exchange x) {
    uint64_t before = 0, after = 0, running = 0;
    hot_slice body;
    host->time_left(x, &before);
    host->time_left(x, &after);
    host->respond(x, 200, NULL, 0);
    host->body_write(x, 0, before == after ? TEXT("still ") : TEXT("moved "), NULL);
    host->body_all(x, 100, &body);
    /* What was written has been taken, since only then the test ends the body. */
    host->time_left(x, &before);
    do
        host->time_left(x, &running);
    while (running == before);
    host->body_write(x, 0, running < before ? TEXT("runs") : TEXT("grows"), NULL);
    host->finish(x);
}

static void handle(void *self, hot_exchange x) {
    hot_slice target = NONE;
    (void)self;
    if (host->target(x, &target) != HOT_OK)
        return;
    if (is(target, "/header/name"))
        headers(x, TEXT("a b"), TEXT("c"));
    else if (is(target, "/header/value"))
        headers(x, TEXT("a"), TEXT("b\r\nc: d"));
    else if (is(target, "/header/hop"))
        headers(x, TEXT("Transfer-Encoding"), TEXT("chunked"));
    else if (is(target, "/wake")) {
        static hot_slice text;
        text = TEXT("from a wake");
        host->notify(x, HOT_READABLE, wake_that_calls, &text);
        host->reply(x, 200, NULL, 0, NONE);
    } else if (is(target, "/waits")) {
        static hot_exchange waited;
        waited = x;
        pthread_create(&waiter, NULL, wait_for_body, &waited);
        pthread_detach(waiter);
    } else if (begins(target, "/order/"))
        order(x, target);
    else if (begins(target, "/upgrade"))
        upgraded(x, target);
    else if (is(target, "/times"))
        times(x);
    else if (begins(target, "/events"))
        events(x, target);
    else if (is(target, "/twice") || is(target, "/late") || is(target, "/made-up") || is(target, "/short") ||
             is(target, "/promised") || is(target, "/endless") || is(target, "/never"))
        endings(x, target);
    else
        arguments(x, target);
}

static hot_status health(void *self, hot_slice *why) {
    (void)self;
    reason[0] = reason[0] == 'a' ? 'A' : 'a'; /* allowed: what was lent by the last call is the module's again */
    *why = (hot_slice){(const uint8_t *)reason, sizeof reason - 1};
    return HOT_FAILED;
}

static void stop(void *self) {
    (void)self;
    reason[0] = 'x';
}

HOT_EXPORT const hot_table hot_module = {HOT_ABI, sizeof(hot_table), start, handle, health, NULL, NULL, stop};
