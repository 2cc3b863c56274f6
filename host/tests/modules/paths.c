/* A module whose behaviour is chosen by the path: what the host's tests need a module to do. */
#include "hot_module.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

HOT_MODULE_METADATA("paths", "1.0.0", "routes = [\"/\"]\n");

#define TEXT(literal) ((hot_slice){(const uint8_t *)(literal), sizeof(literal) - 1})

static const hot_host *host;
static hot_slice health_text;
static hot_exchange kept;

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t opened = PTHREAD_COND_INITIALIZER;
static int gate_is_open;

static int is(hot_slice target, const char *path) {
    return target.len == strlen(path) && memcmp(target.ptr, path, target.len) == 0;
}

static void say(hot_exchange x, const char *text) {
    hot_slice body = {(const uint8_t *)text, strlen(text)};
    host->reply(x, 200, NULL, 0, body);
}

/* What the host answers to calls that break its rules, as numbers. */
static void rules(hot_exchange x) {
    hot_header split = {TEXT("x-a"), TEXT("b\r\nx-c: d")}, hop = {TEXT("Connection"), TEXT("close")};
    hot_header null = {TEXT("x-a"), {NULL, 5}};
    hot_slice out;
    size_t count;
    char text[256];
    int at = 0;
    at += sprintf(text + at, "%d ", host->finish(x));
    at += sprintf(text + at, "%d ", host->body_write(x, 0, TEXT("early"), NULL));
    at += sprintf(text + at, "%d ", host->respond(x, 199, NULL, 0));
    at += sprintf(text + at, "%d ", host->respond(x, 600, NULL, 0));
    at += sprintf(text + at, "%d ", host->respond(x, 200, &split, 1));
    at += sprintf(text + at, "%d ", host->respond(x, 200, &hop, 1));
    at += sprintf(text + at, "%d ", host->respond(x, 200, &null, 1));
    at += sprintf(text + at, "%d ", host->respond(x, 200, NULL, 1));
    at += sprintf(text + at, "%d ", host->respond(x, 200, &split, 1000));
    at += sprintf(text + at, "%d ", host->method(x, NULL));
    at += sprintf(text + at, "%d ", host->header(x, TEXT("x-none"), &out));
    at += sprintf(text + at, "%d ", host->method(0, &out));
    at += sprintf(text + at, "%d ", host->method(x ^ 1, &out));
    at += sprintf(text + at, "%d ", host->body_write(x, HOT_NONBLOCK, TEXT("a"), NULL));
    at += sprintf(text + at, "%d ", host->respond(x, 200, NULL, 0));
    at += sprintf(text + at, "%d ", host->respond(x, 200, NULL, 0));
    hot_slice body = {(const uint8_t *)text, (size_t)at};
    at = sprintf(text + at, "%d", host->body_write(x, HOT_NONBLOCK, body, &count));
    host->finish(x);
}

/* What the host answers after the end, kept for /after. */
static char after[128];
static void ends(hot_exchange x) {
    hot_slice out, method, target;
    host->method(x, &method);
    host->target(x, &target);
    host->reply(x, 200, NULL, 0, TEXT("first"));
    int at = sprintf(after, "%d %d ", host->reply(x, 200, NULL, 0, TEXT("second")), host->finish(x));
    at += sprintf(after + at, "%d %d ", host->abort(x, TEXT("late")), host->method(x, &out));
    at += sprintf(after + at, "%d ", host->body_read(x, 0, &out));
    /* Lent bytes live until handle returns, even past the end. */
    sprintf(after + at, "%.*s %.*s", (int)method.len, method.ptr, (int)target.len, target.ptr);
}

static void echo(hot_exchange x) {
    hot_slice piece;
    hot_status status = host->respond(x, 200, NULL, 0);
    while (status == HOT_OK && (status = host->body_read(x, 0, &piece)) == HOT_OK && piece.len > 0)
        status = host->body_write(x, 0, piece, NULL);
    const hot_header *trailers;
    size_t count;
    if (status == HOT_OK && host->request_trailers(x, &trailers, &count) == HOT_OK && count > 0)
        host->trailers(x, trailers, count);
    host->finish(x);
}

static void all(hot_exchange x) {
    hot_slice body;
    hot_status status = host->body_all(x, 1 << 20, &body);
    if (status == HOT_OK)
        host->reply(x, 200, NULL, 0, body);
    else
        say(x, status == HOT_TOO_LARGE ? "too large" : "failed");
}

/* One reply that is larger than the credit of an exchange. */
static void big(hot_exchange x) {
    size_t len = 1000000;
    uint8_t *bytes = malloc(len);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(i % 251);
    host->reply(x, 200, NULL, 0, (hot_slice){bytes, len});
    free(bytes);
}

static void *finish_elsewhere(void *exchange) {
    say((hot_exchange)(uintptr_t)exchange, "from another thread");
    return NULL;
}

static void later(hot_exchange x) {
    pthread_t thread;
    pthread_create(&thread, NULL, finish_elsewhere, (void *)(uintptr_t)x);
    pthread_detach(thread);
}

/* Blocks outside of the host's services until /open is asked. */
static void block(hot_exchange x) {
    pthread_mutex_lock(&gate);
    while (!gate_is_open)
        pthread_cond_wait(&opened, &gate);
    pthread_mutex_unlock(&gate);
    say(x, "was blocked");
}

static void open_gate(hot_exchange x) {
    pthread_mutex_lock(&gate);
    gate_is_open = 1;
    pthread_cond_broadcast(&opened);
    pthread_mutex_unlock(&gate);
    say(x, "opened");
}

static void show(hot_exchange x) {
    hot_slice method, target, peer, header = {NULL, 0};
    const hot_header *headers;
    size_t count;
    uint64_t left;
    host->method(x, &method);
    host->target(x, &target);
    host->peer(x, &peer);
    host->headers(x, &headers, &count);
    host->header(x, TEXT("X-Test"), &header);
    host->time_left(x, &left);
    char text[512];
    snprintf(text, sizeof text, "%.*s %.*s %.*s %zu %.*s %.*s %d", (int)method.len, method.ptr, (int)target.len,
             target.ptr, (int)peer.len, peer.ptr, count, (int)headers[0].name.len, headers[0].name.ptr,
             (int)header.len, header.ptr, left > 0 && left <= 5000000000ull);
    hot_header own = {TEXT("x-own"), TEXT("value")};
    host->reply(x, 201, &own, 1, (hot_slice){(const uint8_t *)text, strlen(text)});
}

/* Nanoseconds until the deadline. */
static void left(hot_exchange x) {
    char text[32];
    uint64_t left = 0;
    host->time_left(x, &left);
    sprintf(text, "%llu", (unsigned long long)left);
    say(x, text);
}

/* What a call for the exchange that /keep has kept answers. */
static void poke(hot_exchange x) {
    char text[64];
    int first = host->respond(kept, 200, NULL, 0), second = host->finish(kept);
    sprintf(text, "%d %d %d", first, second, host->finish(kept));
    say(x, text);
}

static void handle(void *self, hot_exchange x) {
    (void)self;
    hot_slice target;
    if (host->target(x, &target) != HOT_OK)
        abort();
    if (is(target, "/show?a=b"))
        show(x);
    else if (is(target, "/rules"))
        rules(x);
    else if (is(target, "/ends"))
        ends(x);
    else if (is(target, "/after"))
        say(x, after);
    else if (is(target, "/echo"))
        echo(x);
    else if (is(target, "/all"))
        all(x);
    else if (is(target, "/big"))
        big(x);
    else if (is(target, "/later"))
        later(x);
    else if (is(target, "/block"))
        block(x);
    else if (is(target, "/open"))
        open_gate(x);
    else if (is(target, "/keep"))
        kept = x;
    else if (is(target, "/left"))
        left(x);
    else if (is(target, "/poke"))
        poke(x);
    else if (is(target, "/abort"))
        host->abort(x, TEXT("the module's reason"));
    else if (is(target, "/abort/silently"))
        host->abort(x, TEXT(""));
    else if (is(target, "/abort/at-length")) {
        static uint8_t why[5000];
        memset(why, 'l', sizeof why);
        host->abort(x, (hot_slice){why, sizeof why});
    } else if (is(target, "/abort/kept"))
        say(x, host->abort(kept, TEXT("nobody asks")) == HOT_OK ? "0" : "refused");
    else if (is(target, "/sick"))
        health_text = TEXT("feels sick"), say(x, "now sick");
    else if (is(target, "/crash"))
        abort();
    else if (is(target, "/config")) {
        hot_slice config = host->config();
        host->reply(x, 200, NULL, 0, config);
    } else
        say(x, "plain");
}

static hot_status start(const hot_host *services, hot_slice config, void **self, hot_slice *why) {
    (void)self;
    if (config.len == 4 && memcmp(config.ptr, "fail", 4) == 0) {
        *why = TEXT("told to fail");
        return HOT_FAILED;
    }
    host = services;
    host->log(HOT_LOG_WARN, TEXT("two\nlines"));
    return HOT_OK;
}

static hot_status health(void *self, hot_slice *why) {
    (void)self;
    *why = health_text;
    return health_text.len > 0 ? HOT_FAILED : HOT_OK;
}

static void stop(void *self) {
    (void)self;
    printf("stopped in order\n");
}

HOT_EXPORT const hot_table hot_module = {
#ifdef WRONG_ABI
    .abi = 7,
#else
    .abi = HOT_ABI,
#endif
    .size = sizeof(hot_table),
    .start = start,
    .handle = handle,
    .health = health,
    .stop = stop,
};
