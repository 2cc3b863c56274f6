/*
 * Tests of a module in C or C++ without a daemon: a host inside the test program, with the real table of services. It
 * drives start, handle, health and stop, gives back what a client would see, and reports every breach of the contract
 * (docs/abi.md) that it can see: an exchange that is ended twice or never, calls out of order, headers that HTTP does
 * not allow, a broken promise of content-length, bytes that change while they are lent, a wake that calls services.
 *
 *     #include "hot_testing.h"
 *
 *     int main(int argc, char **argv) {
 *         HOT_CHECK(argc == 2 && hot_test_load(argv[1]));        // the .so that ships; or hot_test_use(&hot_module)
 *         HOT_CHECK(hot_test_start("the config"));
 *         const hot_test_response *response = hot_test_get("/hello");
 *         HOT_CHECK_INT(response->status, 200);
 *         HOT_CHECK_TEXT(response->body, "hello\n");
 *         return hot_test_stop();                                // 0 if all held
 *     }
 *
 *     cc test.c -o test -pthread -ldl && ./test ./hello.so
 *
 * As in a real host there is one module at a time, and `handle` is called on threads of the host's own. Bytes that the
 * contract says are gone are overwritten and freed, so that a module which still reads them fails here, and says where
 * under valgrind or -fsanitize=address. Include it in one file of a test program, before other headers if that is built
 * with -std=c99 or the like. C99 or later, C++11 or later, GCC or Clang, Linux.
 *
 * It does not know routes, metadata or signatures: `hotctl inspect` reads those.
 */
#ifndef HOT_TESTING_H
#define HOT_TESTING_H

#if defined(__STRICT_ANSI__) && !defined(_POSIX_C_SOURCE) && !defined(_GNU_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif

#include "hot_module.h"

#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef CLOCK_MONOTONIC
#error "include hot_testing.h before other headers, or build with -D_POSIX_C_SOURCE=200809L"
#endif

/* What is asked of the module. All zero but `target` is a plain GET. Texts are ended by a NUL. */
typedef struct hot_test_request {
    const char *method;   /* NULL: GET, or POST if there is a body */
    const char *target;   /* as in "/hello?name=Ada" */
    const char *headers;  /* lines "name: value\n"; NULL: none */
    const char *body;     /* NULL: none */
    size_t body_len;      /* 0: up to the NUL */
    const char *trailers; /* as headers, behind the body */
    const char *peer;     /* NULL: "192.0.2.1:50000" */
    size_t piece;         /* most bytes that one body_read gives; 0: 16 KiB */
    unsigned deadline_ms; /* 0: 10 s. What the module waits for the test does not count: the test may take as long at
                             once. Of a long stream, how long the test waits for one thing */
    int streamed;         /* more of the body comes with hot_test_write, up to hot_test_write_end */
    size_t window;        /* of a response that hot_test_read reads: what the module may be ahead; 0: 256 KiB */
} hot_test_request;

/* What the client sees. Lives until hot_test_stop. */
typedef struct hot_test_response {
    unsigned status;     /* also 500 after an abort, 504 past the deadline, 0 if the client left before there was one */
    int complete;        /* all of it came; else the client sees a cut connection, or one of the statuses above */
    const char *body;    /* with a NUL behind it */
    size_t body_len;
    const char *aborted; /* what `abort` said; NULL without one */
} hot_test_response;

/* One series of the module's metrics. */
typedef struct hot_test_series {
    uint32_t kind;
    double value;   /* total of a counter, last value of a gauge, sum of a histogram */
    uint64_t count; /* how often it was added to, set or observed */
} hot_test_series;

typedef struct hot_test_exchange hot_test_exchange;

/* -- For tests: these functions are called on one thread, that of main. -- */

/* Loads a shared object as hot-host does, or takes a table that is linked into the test program. 1 if it is usable. */
static inline int hot_test_load(const char *path);
static inline int hot_test_use(const hot_table *table);

/* Calls `start` with this config (NULL: none): 1 if it came up. Else hot_test_why says what the module said, and it may
   be started again. */
static inline int hot_test_start(const char *config);
static inline const char *hot_test_why(void);

/* Whole requests: they wait for the end of the answer. */
static inline const hot_test_response *hot_test_get(const char *target);
static inline const hot_test_response *hot_test_post(const char *target, const char *body);
static inline const hot_test_response *hot_test_send(hot_test_request request);

/* The value of the first header or trailer of that name, in any case; NULL if there is none. */
static inline const char *hot_test_header(const hot_test_response *response, const char *name);
static inline const char *hot_test_trailer(const hot_test_response *response, const char *name);

/* Requests and answers piece by piece, many at a time. All that waits does so at most until the exchange's deadline. */
static inline hot_test_exchange *hot_test_open(hot_test_request request);
static inline void hot_test_write(hot_test_exchange *exchange, const char *text);
static inline void hot_test_write_bytes(hot_test_exchange *exchange, const void *bytes, size_t len);
static inline void hot_test_write_end(hot_test_exchange *exchange, const char *trailers); /* NULL: none */
/* Waits for the head: its status, 0 if there is none. */
static inline unsigned hot_test_head(hot_test_exchange *exchange);
/* Waits for the next bytes of the body, at most `len`: how many; 0 at the end. */
static inline size_t hot_test_read(hot_test_exchange *exchange, void *bytes, size_t len);
/* The gateway asks for an end within that time, as it does when an instance is replaced. That counts for a long stream,
   one that the answer has become or becomes: server-sent events, or a connection after a 101. */
static inline void hot_test_ask_to_end(hot_test_exchange *exchange, unsigned milliseconds);
/* The client leaves: the module sees HOT_CANCELLED. */
static inline void hot_test_cancel(hot_test_exchange *exchange);
/* Ends the request, takes the rest of the answer, waits for its end and until `handle` has returned. Every exchange is to
   be closed. */
static inline const hot_test_response *hot_test_close(hot_test_exchange *exchange);

/* Calls `health`: NULL if it is well, else what the module said. */
static inline const char *hot_test_health(void);

/* Whether a line of the log contains this text; the series of that name and those labels, as in "code=200,kind=a" in
   the order of their names ("" for none), or NULL. */
static inline int hot_test_logged(const char *text);
static inline const hot_test_series *hot_test_metric(const char *name, const char *labels);

/* For a test of misuse: takes back the breaches that were reported up to now. How many that were. */
static inline int hot_test_forgive(void);

/* From the next start on, the host is an old one: without `metric` and `notify`. */
static inline void hot_test_old_host(void);

/* Waits for all handlers, calls `stop`, says what went wrong: 0 if nothing did, else 1. For main to return. */
static inline int hot_test_stop(void);

/* Checks, which count a failure and say where; 1 if it held. */
#define HOT_CHECK(condition) hot_test_check((condition) ? 1 : 0, #condition, __FILE__, __LINE__)
#define HOT_CHECK_INT(actual, expected)                                                                                \
    hot_test_check_int((long long)(actual), (long long)(expected), #actual, __FILE__, __LINE__)
#define HOT_CHECK_TEXT(actual, expected) hot_test_check_text((actual), (expected), #actual, __FILE__, __LINE__)

static inline int hot_test_check(int held, const char *what, const char *file, int line);
static inline int hot_test_check_int(long long actual, long long expected, const char *what, const char *file,
                                     int line);
static inline int hot_test_check_text(const char *actual, const char *expected, const char *what, const char *file,
                                      int line);

/* -- What is below is not for tests. -- */

#include "hot_testing_services.h"

/* The module's side. */

static void hot_t_alarmed(int signal) {
    static const char text[] = "hot_testing: one of start, health and stop has not returned for 30 s\n";
    (void)signal;
    if (write(2, text, sizeof text - 1) < 0) {}
    _exit(1);
}

/* Around a call that nothing else bounds. */
static inline void hot_t_watch(unsigned seconds) {
    if (seconds > 0)
        signal(SIGALRM, hot_t_alarmed);
    alarm(seconds);
}

static inline int hot_test_use(const hot_table *table) {
    hot_t_setup();
    hot_t.table = NULL;
    if (table == NULL || table->abi != HOT_ABI)
        hot_t_breach("the table's abi is not %u", HOT_ABI);
    else if (!HOT_HAS(hot_table, table, start))
        hot_t_breach("the table has no `start`");
    else
        hot_t.table = table;
    return hot_t.table != NULL;
}

static inline int hot_test_load(const char *path) {
    /* As hot-host does, and never closed: a module is never unloaded. Without a slash dlopen would search elsewhere. */
    hot_t_bytes file = {NULL, 0, 0};
    void *library, *table;
    hot_t_append(&file, "./", strchr(path, '/') == NULL ? 2 : 0);
    hot_t_append(&file, path, strlen(path));
    library = dlopen(file.at, RTLD_NOW | RTLD_LOCAL);
    free(file.at);
    table = library == NULL ? NULL : dlsym(library, "hot_module");
    if (table == NULL) {
        fprintf(stderr, "hot_testing: %s: %s\n", path, dlerror());
        hot_t.failures++;
        return 0;
    }
    return hot_test_use((const hot_table *)table);
}

static inline int hot_test_start(const char *config) {
    const size_t len = config == NULL ? 0 : strlen(config);
    hot_slice why = {NULL, 0};
    hot_status status;
    if (hot_t.table == NULL || hot_t.is_started) {
        hot_t.why = hot_t.is_started ? "it is started already" : "no module was loaded";
        fprintf(stderr, "hot_testing: hot_test_start: %s\n", hot_t.why);
        hot_t.failures++;
        return 0;
    }
    hot_t_host.size = hot_t.is_old ? (uint32_t)offsetof(hot_host, metric) : (uint32_t)sizeof(hot_host);
    hot_t.config = hot_t_keep_in(&hot_t.forever, config, len);
    hot_t.self = NULL;
    hot_t_watch(HOT_T_PATIENCE);
    status = hot_t.table->start(&hot_t_host, hot_t.config, &hot_t.self, &why);
    hot_t_watch(0);
    hot_t.is_started = status == HOT_OK;
    hot_t.why = (const char *)hot_t_keep_in(&hot_t.forever, why.ptr, hot_t_is_slice(why) ? why.len : 0).ptr;
    if (status != HOT_OK && status != HOT_FAILED)
        hot_t_breach("`start` answered %d: HOT_OK and HOT_FAILED are allowed", (int)status);
    else if (status == HOT_FAILED && why.len == 0)
        hot_t_breach("`start` failed and said no reason in `*why`");
    return hot_t.is_started;
}

static inline const char *hot_test_why(void) { return hot_t.why; }

static inline void hot_test_old_host(void) { hot_t.is_old = 1; }

static inline void *hot_t_handle(void *argument) {
    hot_test_exchange *x = (hot_test_exchange *)argument;
    hot_t.table->handle(hot_t.self, x->id);
    pthread_mutex_lock(&hot_t.lock);
    x->has_returned = 1;
    hot_t_take_back(x);
    hot_t_leave();
    return NULL;
}

/* An exchange that a module that is not there answers with 503. */
static inline int hot_t_can_serve(hot_test_exchange *x) {
    const char *why = NULL;
    if (!hot_t.is_started)
        why = "no module is started";
    else if (!HOT_HAS(hot_table, hot_t.table, handle))
        why = "the module's table has no `handle`";
    if (why != NULL) {
        fprintf(stderr, "hot_testing: %s: %s\n", x->name, why);
        hot_t.failures++;
        x->phase = HOT_T_ENDED;
        x->has_returned = 1;
        x->ended_by = "nobody";
        x->response.status = 503;
    }
    return why == NULL;
}

static inline hot_test_exchange *hot_test_open(hot_test_request request) {
    hot_test_exchange *x = (hot_test_exchange *)hot_t_allocate(sizeof *x);
    const int has_body = request.body != NULL || request.streamed;
    const char *method = request.method != NULL ? request.method : has_body ? "POST" : "GET";
    const char *peer = request.peer != NULL ? request.peer : "192.0.2.1:50000";
    hot_t_setup();
    snprintf(x->name, sizeof x->name, "%s %s", method, request.target);
    x->method = hot_t_lend(x, method, strlen(method));
    x->target = hot_t_lend(x, request.target, strlen(request.target));
    x->peer = hot_t_lend(x, peer, strlen(peer));
    x->headers = hot_t_parse(x, request.headers);
    if (request.body != NULL)
        hot_t_append(&x->in, request.body, request.body_len > 0 ? request.body_len : strlen(request.body));
    x->is_upgrade = hot_t_find(&x->headers, "upgrade", 7) != NULL;
    x->in_whole = !request.streamed && !x->is_upgrade; /* what follows such a request is for behind the 101 */
    if (x->in_whole)
        x->request_trailers = hot_t_parse(x, request.trailers);
    x->piece_size = request.piece > 0 ? request.piece : HOT_T_PIECE;
    x->window = request.window > 0 ? request.window : HOT_T_WINDOW;
    x->time_ms = request.deadline_ms > 0 ? request.deadline_ms : 10000;
    x->deadline = hot_t_in(x->time_ms);
    x->is_read = 1;
    x->is_head = strcmp(method, "HEAD") == 0;
    hot_t_append(&x->out, "", 0);
    pthread_mutex_lock(&hot_t.lock);
    /* Numbers that nobody would make up. */
    hot_t.last += 0x100000001u;
    x->id = hot_t.last;
    x->next = hot_t.exchanges;
    hot_t.exchanges = x;
    if (hot_t_can_serve(x)) {
        x->has_thread = pthread_create(&x->thread, NULL, hot_t_handle, x) == 0;
        if (!x->has_thread)
            abort();
    }
    hot_t_leave();
    return x;
}

static inline void hot_test_write_bytes(hot_test_exchange *x, const void *bytes, size_t len) {
    pthread_mutex_lock(&hot_t.lock);
    if (!x->in_whole)
        hot_t_append(&x->in, bytes, len);
    x->has_moved = 1;
    hot_t_leave();
}

static inline void hot_test_write(hot_test_exchange *x, const char *text) {
    hot_test_write_bytes(x, text, strlen(text));
}

static inline void hot_test_write_end(hot_test_exchange *x, const char *trailers) {
    pthread_mutex_lock(&hot_t.lock);
    if (!x->in_whole && x->phase != HOT_T_ENDED)
        x->request_trailers = hot_t_parse(x, trailers);
    x->in_whole = 1;
    hot_t_leave();
}

static inline unsigned hot_test_head(hot_test_exchange *x) {
    unsigned status;
    pthread_mutex_lock(&hot_t.lock);
    while (x->response.status == 0 && x->phase == HOT_T_WAITING && hot_t_wait_for(x, x->deadline)) {}
    status = x->response.status;
    hot_t_leave();
    return status;
}

static inline size_t hot_test_read(hot_test_exchange *x, void *bytes, size_t len) {
    const struct timespec patience = hot_t_in(x->time_ms);
    size_t found;
    pthread_mutex_lock(&hot_t.lock);
    while (x->out.len == x->out_taken && x->phase != HOT_T_ENDED && hot_t_wait_for(x, patience)) {}
    found = x->out.len - x->out_taken;
    found = found < len ? found : len;
    if (found > 0)
        memcpy(bytes, x->out.at + x->out_taken, found);
    x->out_taken += found;
    x->has_moved |= found > 0;
    hot_t_leave();
    return found;
}

static inline void hot_test_ask_to_end(hot_test_exchange *x, unsigned milliseconds) {
    pthread_mutex_lock(&hot_t.lock);
    x->is_asked = 1;
    x->asked = hot_t_in(milliseconds);
    if (x->is_long)
        x->deadline = x->asked;
    hot_t_leave();
}

static inline void hot_test_cancel(hot_test_exchange *x) {
    pthread_mutex_lock(&hot_t.lock);
    x->is_cancelled = 1;
    hot_t_leave();
}

/* Waits until the module has ended the exchange, and reports one that it never ends. The lock is left meanwhile. */
static inline void hot_t_await(hot_test_exchange *x) {
    struct timespec until = hot_t_in(x->time_ms);
    while (x->phase != HOT_T_ENDED && x->out.len < HOT_T_LARGEST && hot_t_wait_for(x, until)) {}
    if (x->phase == HOT_T_ENDED)
        return;
    x->is_late |= !x->is_cancelled;
    x->is_cancelled = 1;
    /* Now it hears of that, from its notice or its next call, and is to end it. */
    hot_t_leave();
    pthread_mutex_lock(&hot_t.lock);
    until = hot_t_in(HOT_T_GRACE);
    while (x->phase != HOT_T_ENDED && x->out.len < HOT_T_LARGEST && hot_t_wait(until)) {}
    if (x->phase == HOT_T_ENDED)
        return;
    if (x->out.len >= HOT_T_LARGEST)
        hot_t_breach("%s: a body without end; it was cut after %zu bytes", x->name, x->out.len);
    else
        hot_t_breach("%s: it was not ended by its deadline, by none of `reply`, `finish` and `abort`; its `handle` %s",
                     x->name, x->has_returned ? "has returned" : "still runs");
}

static inline const hot_test_response *hot_test_close(hot_test_exchange *x) {
    const struct timespec patience = hot_t_in(x->time_ms);
    pthread_mutex_lock(&hot_t.lock);
    if (x->is_closed) {
        hot_t_leave();
        return &x->response;
    }
    x->is_closed = 1;
    x->in_whole = 1;
    x->is_read = 0;
    hot_t_leave(); /* tells who waits to read or write */
    pthread_mutex_lock(&hot_t.lock);
    hot_t_await(x);
    hot_t_leave();
    pthread_mutex_lock(&hot_t.lock);
    /* So that what it does behind the end is seen too. */
    while (!x->has_returned && hot_t_wait_for(x, patience)) {}
    if (x->is_late && x->response.status == 0)
        x->response.status = 504;
    x->response.body = x->out.at;
    x->response.body_len = x->out.len;
    x->response.aborted = x->aborted;
    hot_t_leave();
    return &x->response;
}

static inline const hot_test_response *hot_test_send(hot_test_request request) {
    request.streamed = 0;
    return hot_test_close(hot_test_open(request));
}

static inline const hot_test_response *hot_test_get(const char *target) { return hot_test_post(target, NULL); }

static inline const hot_test_response *hot_test_post(const char *target, const char *body) {
    hot_test_request request;
    memset(&request, 0, sizeof request);
    request.target = target;
    request.body = body;
    return hot_test_send(request);
}

static inline const hot_test_exchange *hot_t_of(const hot_test_response *response) {
    return (const hot_test_exchange *)(const void *)((const char *)response - offsetof(hot_test_exchange, response));
}

static inline const char *hot_test_header(const hot_test_response *response, const char *name) {
    const hot_header *found = hot_t_find(&hot_t_of(response)->out_headers, name, strlen(name));
    return found == NULL ? NULL : (const char *)found->value.ptr;
}

static inline const char *hot_test_trailer(const hot_test_response *response, const char *name) {
    const hot_header *found = hot_t_find(&hot_t_of(response)->out_trailers, name, strlen(name));
    return found == NULL ? NULL : (const char *)found->value.ptr;
}

/* What `health` lent lives until it is called again: it must still read as it did. */
static inline void hot_t_check_health(void) {
    if (hot_t.health.len > 0 && memcmp(hot_t.health.ptr, hot_t.health_copy, hot_t.health.len) != 0)
        hot_t_breach("`*why` of `health` changed before the next call of it");
    hot_t.health.len = 0;
}

static inline const char *hot_test_health(void) {
    hot_slice why = {NULL, 0};
    hot_status status;
    if (!hot_t.is_started || !HOT_HAS(hot_table, hot_t.table, health))
        return hot_t.is_started ? NULL : "no module is started";
    hot_t_check_health();
    hot_t_watch(HOT_T_PATIENCE);
    status = hot_t.table->health(hot_t.self, &why);
    hot_t_watch(0);
    if (status == HOT_OK)
        return NULL;
    if (status != HOT_FAILED)
        hot_t_breach("`health` answered %d: HOT_OK and HOT_FAILED are allowed", (int)status);
    free(hot_t.health_copy);
    hot_t.health = hot_t_is_slice(why) ? why : hot_t_slice(NULL, 0);
    hot_t.health_copy = hot_t_copy(hot_t.health.ptr, hot_t.health.len);
    return hot_t.health_copy;
}

static inline int hot_test_logged(const char *text) {
    int found;
    pthread_mutex_lock(&hot_t.lock);
    found = hot_t.log.at != NULL && strstr(hot_t.log.at, text) != NULL;
    pthread_mutex_unlock(&hot_t.lock);
    return found;
}

static inline const hot_test_series *hot_test_metric(const char *name, const char *labels) {
    hot_t_metric *metric;
    pthread_mutex_lock(&hot_t.lock);
    metric = hot_t_find_metric(name, labels);
    pthread_mutex_unlock(&hot_t.lock);
    return metric == NULL ? NULL : &metric->series;
}

static inline int hot_test_forgive(void) {
    int breaches;
    pthread_mutex_lock(&hot_t.lock);
    breaches = hot_t.breaches;
    hot_t.breaches = 0;
    if (breaches > 0)
        fprintf(stderr, "hot_testing: %d of it was expected\n", breaches);
    pthread_mutex_unlock(&hot_t.lock);
    return breaches;
}

/* Waits for the handlers: 0 if one does not return. */
static inline int hot_t_join(void) {
    const struct timespec until = hot_t_in(HOT_T_PATIENCE * 1000);
    hot_test_exchange *x;
    int joined = 1;
    for (x = hot_t.exchanges; x != NULL; x = x->next)
        hot_test_close(x);
    pthread_mutex_lock(&hot_t.lock);
    for (x = hot_t.exchanges; x != NULL; x = x->next) {
        while (!x->has_returned && hot_t_wait(until)) {}
        if (x->has_returned)
            continue;
        hot_t_breach("%s: its `handle` has not returned", x->name);
        joined = 0;
    }
    hot_t_leave();
    for (x = hot_t.exchanges; joined && x != NULL; x = x->next) {
        if (x->has_thread)
            pthread_join(x->thread, NULL);
        x->has_thread = 0;
    }
    return joined;
}

/* Frees what no thread of the module can be using. */
static inline void hot_t_free(void) {
    hot_test_exchange **link = &hot_t.exchanges;
    pthread_mutex_lock(&hot_t.lock);
    while (*link != NULL) {
        hot_test_exchange *x = *link;
        if (x->phase != HOT_T_ENDED || x->waiting > 0) {
            link = &x->next;
            continue;
        }
        *link = x->next;
        hot_t_forget(&x->out_headers);
        hot_t_forget(&x->out_trailers);
        free(x->in.at);
        free(x->out.at);
        free(x->aborted);
        free(x);
    }
    while (hot_t.metrics != NULL) {
        hot_t_metric *metric = hot_t.metrics;
        hot_t.metrics = metric->next;
        free(metric->name);
        free(metric->labels);
        free(metric);
    }
    free(hot_t.health_copy);
    free(hot_t.log.at);
    hot_t.health_copy = hot_t.log.at = NULL;
    hot_t.log.len = hot_t.log.room = 0;
    hot_t.series = 0;
    hot_t.health = hot_t_slice(NULL, 0);
    pthread_mutex_unlock(&hot_t.lock);
}

static inline int hot_test_stop(void) {
    int failed, joined = hot_t_join();
    if (joined && hot_t.is_started) {
        hot_t_check_health();
        if (HOT_HAS(hot_table, hot_t.table, stop)) {
            hot_t_watch(HOT_T_PATIENCE);
            hot_t.table->stop(hot_t.self);
            hot_t_watch(0);
        }
    }
    hot_t.is_started = 0;
    failed = hot_t.failures > 0 || hot_t.breaches > 0;
    if (failed && hot_t.log.len > 0)
        fprintf(stderr, "hot_testing: what the module logged:\n%s", hot_t.log.at);
    fprintf(stderr, "hot_testing: %d checks, %d failed, %d breaches of the contract\n", hot_t.checks, hot_t.failures,
            hot_t.breaches);
    /* What a handler that never returns still uses stays. */
    if (joined)
        hot_t_free();
    return failed;
}

/* Checks. */

static inline int hot_test_check(int held, const char *what, const char *file, int line) {
    hot_t.checks++;
    hot_t.failures += !held;
    if (!held)
        fprintf(stderr, "%s:%d: expected: %s\n", file, line, what);
    return held;
}

static inline int hot_test_check_int(long long actual, long long expected, const char *what, const char *file,
                                     int line) {
    const int held = actual == expected;
    hot_t.checks++;
    hot_t.failures += !held;
    if (!held)
        fprintf(stderr, "%s:%d: %s is %lld, expected %lld\n", file, line, what, actual, expected);
    return held;
}

static inline int hot_test_check_text(const char *actual, const char *expected, const char *what, const char *file,
                                      int line) {
    const int held = actual != NULL && strcmp(actual, expected) == 0;
    hot_t.checks++;
    hot_t.failures += !held;
    if (!held)
        fprintf(stderr, "%s:%d: %s is `%s`, expected `%s`\n", file, line, what, actual == NULL ? "(null)" : actual,
                expected);
    return held;
}

#endif
