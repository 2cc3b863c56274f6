/*
 * Uses the contract in every order and with every argument that it may not, and reports of each step how it was answered:
 * refused with the status that docs/abi.md names (steps.def), never worse.
 */
#include "steps.h"

#include <math.h>

HOT_MODULE_METADATA("misuses", "1.0.0", "routes = [\"/misuses\"]\n");

#define NULL_TEXT ((hot_slice){NULL, 5})
#define ENDLESS ((hot_slice){(const uint8_t *)"x", SIZE_MAX})

static void never(void *context) {
    (void)context;
    step("never_woken", 1);
}

static void ignore(void *context) { (void)context; }

/* Every function that takes an exchange, with one that is none. */
static void with_handle(const char *what, hot_exchange x) {
    hot_slice out;
    const hot_header *headers;
    size_t number;
    uint64_t left;
    const struct {
        const char *service;
        hot_status status;
    } answers[] = {
        {"method", host->method(x, &out)},
        {"target", host->target(x, &out)},
        {"peer", host->peer(x, &out)},
        {"headers", host->headers(x, &headers, &number)},
        {"header", host->header(x, TEXT("x-test"), &out)},
        {"time_left", host->time_left(x, &left)},
        {"body_read", host->body_read(x, 0, &out)},
        {"body_read_nonblocking", host->body_read(x, HOT_NONBLOCK, &out)},
        {"body_all", host->body_all(x, 100, &out)},
        {"request_trailers", host->request_trailers(x, &headers, &number)},
        {"reply", host->reply(x, 200, NULL, 0, NOTHING)},
        {"respond", host->respond(x, 200, NULL, 0)},
        {"body_write", host->body_write(x, 0, TEXT("a"), NULL)},
        {"body_write_nonblocking", host->body_write(x, HOT_NONBLOCK, TEXT("a"), &number)},
        {"trailers", host->trailers(x, NULL, 0)},
        {"finish", host->finish(x)},
        {"abort", host->abort(x, TEXT("no"))},
        {"notify", host->notify(x, 0, never, NULL)},
    };
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s.%s", what, answers[i].service);
        step(name, answers[i].status);
    }
}

static void handles(hot_exchange x) {
    with_handle("handle_0", 0);
    with_handle("handle_1", 1);
    with_handle("handle_most", UINT64_MAX);
    with_handle("handle_beside", x ^ 1);
    with_handle("handle_of_before", x - ((uint64_t)1 << 32));
    with_handle("handle_to_come", x + ((uint64_t)1 << 32));
}

/* No place for the answer; and none of the body is lost by asking. */
static void nowhere(hot_exchange x) {
    hot_slice body;
    const hot_header *headers;
    size_t number;
    step("null_method", host->method(x, NULL));
    step("null_target", host->target(x, NULL));
    step("null_peer", host->peer(x, NULL));
    step("null_headers", host->headers(x, NULL, &number));
    step("null_headers_count", host->headers(x, &headers, NULL));
    step("null_header", host->header(x, TEXT("x-test"), NULL));
    step("null_time_left", host->time_left(x, NULL));
    step("null_body_read", host->body_read(x, 0, NULL));
    step("null_body_all", host->body_all(x, 100, NULL));
    step("null_request_trailers", host->request_trailers(x, NULL, NULL));
    step("null_wake", host->notify(x, HOT_READABLE, NULL, NULL));
    step("trailers_before_the_end", host->request_trailers(x, &headers, &number));
    step("unknown_event", host->notify(x, 8, never, NULL));
    step("unknown_events", host->notify(x, UINT32_MAX, never, NULL));
    step("unknown_read_flag", host->body_read(x, 2, &body));
    step("nothing_was_lost", host->body_all(x, 100, &body));
    step("nothing_was_lost_says", is(body, "some body"));
}

static void lengths(hot_exchange x) {
    hot_slice out;
    size_t written;
    hot_header endless = {TEXT("x-a"), ENDLESS}, null = {TEXT("x-a"), NULL_TEXT}, nameless = {NULL_TEXT, TEXT("v")};
    step("endless_name", host->header(x, ENDLESS, &out));
    step("null_name", host->header(x, NULL_TEXT, &out));
    step("endless_body", host->reply(x, 200, NULL, 0, ENDLESS));
    step("null_body", host->reply(x, 200, NULL, 0, NULL_TEXT));
    step("endless_value", host->respond(x, 200, &endless, 1));
    step("null_value", host->respond(x, 200, &null, 1));
    step("null_header_name", host->respond(x, 200, &nameless, 1));
    step("null_header_array", host->respond(x, 200, NULL, 1));
    step("null_reply_headers", host->reply(x, 200, NULL, 7, NOTHING));
    step("misaligned_headers", host->respond(x, 200, (const hot_header *)((uintptr_t)&endless + 1), 1));
    step("endless_headers", host->respond(x, 200, &endless, SIZE_MAX));
    step("early_endless_write", host->body_write(x, 0, ENDLESS, &written));
    step("nowhere_written", host->body_write(x, HOT_NONBLOCK, TEXT("a"), NULL));
    step("unknown_write_flag", host->body_write(x, 4, TEXT("a"), &written));
    host->log(HOT_LOG_INFO, ENDLESS);
    host->log(99, NULL_TEXT);
}

/* A head of 64 KiB, with what each header and the head itself cost, and one of a byte more. */
static uint8_t large[65536];
static const hot_header largest = {{(const uint8_t *)"x-a", 3}, {large, sizeof large - 8 - 4 - 3}};
static const hot_header too_large = {{(const uint8_t *)"x-a", 3}, {large, sizeof large - 8 - 4 - 3 + 1}};

static void heads(hot_exchange x) {
    static const uint32_t statuses[] = {0, 100, 101, 199, 600, 65736, UINT32_MAX};
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        step("bad_status_respond", host->respond(x, statuses[i], NULL, 0));
        step("bad_status_reply", host->reply(x, statuses[i], NULL, 0, NOTHING));
    }
    const hot_header upgrade = {TEXT("upgrade"), TEXT("echo/1")};
    step("unasked_upgrade_respond", host->respond(x, 101, &upgrade, 1));
    step("unasked_upgrade_reply", host->reply(x, 101, &upgrade, 1, NOTHING));
    const hot_header forbidden[] = {
        {TEXT("Connection"), TEXT("close")}, {TEXT("keep-alive"), TEXT("1")}, {TEXT("Proxy-Connection"), TEXT("a")},
        {TEXT("TE"), TEXT("trailers")},      {TEXT("Transfer-Encoding"), TEXT("chunked")}, {TEXT("upgrade"), TEXT("h2c")},
        {{NULL, 0}, TEXT("v")},              {TEXT("a b"), TEXT("v")},        {TEXT("a:"), TEXT("v")},
        {TEXT("x-a"), TEXT("b\r\nc: d")},    {TEXT("x-a"), TEXT("b\nc")},     {TEXT("x-a"), TEXT("\0")},
        {TEXT("x-a"), TEXT("\x7f")},         {TEXT("x\xc3\xa4"), TEXT("v")},
    };
    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++) {
        step("forbidden_respond", host->respond(x, 200, &forbidden[i], 1));
        step("forbidden_reply", host->reply(x, 200, &forbidden[i], 1, TEXT("b")));
    }
    static hot_header many[129];
    for (size_t i = 0; i < 129; i++)
        many[i] = (hot_header){TEXT("x-a"), TEXT("v")};
    hot_header too_long = {TEXT("x-a"), {large, sizeof large}};
    hot_header two[2] = {{TEXT("x-a"), {large, 40000}}, {TEXT("x-b"), {large, 40000}}};
    step("too_many_headers", host->respond(x, 200, many, 129));
    step("too_long_a_value", host->reply(x, 200, &too_long, 1, NOTHING));
    step("too_much_in_all", host->reply(x, 200, two, 2, TEXT("b")));
    step("a_byte_too_much", host->respond(x, 200, &too_large, 1));
}

static void orders(hot_exchange x) {
    size_t written;
    hot_header hop = {TEXT("connection"), TEXT("close")}, sum = {TEXT("x-sum"), TEXT("1")};
    step("finish_before_the_head", host->finish(x));
    step("body_before_the_head", host->body_write(x, 0, TEXT("a"), NULL));
    step("body_before_the_head_nonblocking", host->body_write(x, HOT_NONBLOCK, TEXT("a"), &written));
    step("empty_body_before_the_head", host->body_write(x, 0, NOTHING, NULL));
    step("trailers_before_the_head", host->trailers(x, &sum, 1));
    step("head", host->respond(x, 200, &largest, 1));
    step("second_head", host->respond(x, 200, NULL, 0));
    step("second_head_too_large", host->respond(x, 200, &too_large, 1));
    step("second_head_bad_status", host->respond(x, 199, NULL, 0));
    step("reply_behind_the_head", host->reply(x, 200, NULL, 0, TEXT("a")));
    step("forbidden_trailer", host->trailers(x, &hop, 1));
    step("null_trailers", host->trailers(x, NULL, 1));
    step("trailers", host->trailers(x, &sum, 1));
    step("second_trailers", host->trailers(x, &sum, 1));
    step("second_trailers_too_large", host->trailers(x, &too_large, 1));
    step("finish", host->finish(x));
}

static void metrics(void) {
    hot_header label = {TEXT("a"), TEXT("b")}, nine[9], reserved = {TEXT("le"), TEXT("1")}, null = {TEXT("a"), NULL_TEXT};
    hot_header control = {TEXT("a"), TEXT("\x1b[2J")}, twice[2] = {{TEXT("a"), TEXT("1")}, {TEXT("a"), TEXT("2")}};
    hot_header binary = {TEXT("a"), TEXT("\xff")};
    for (size_t i = 0; i < 9; i++)
        nine[i] = label;
    step("metric_kind_0", host->metric(0, TEXT("m"), NULL, 0, 1));
    step("metric_kind_4", host->metric(4, TEXT("m"), NULL, 0, 1));
    step("metric_less", host->metric(HOT_COUNTER, TEXT("m"), NULL, 0, -1));
    step("metric_none", host->metric(HOT_GAUGE, TEXT("m"), NULL, 0, NAN));
    step("metric_endless", host->metric(HOT_HISTOGRAM, TEXT("m"), NULL, 0, INFINITY));
    step("metric_nameless", host->metric(HOT_GAUGE, NOTHING, NULL, 0, 1));
    step("metric_null_name", host->metric(HOT_GAUGE, NULL_TEXT, NULL, 0, 1));
    step("metric_endless_name", host->metric(HOT_GAUGE, ENDLESS, NULL, 0, 1));
    step("metric_bad_name", host->metric(HOT_GAUGE, TEXT("a-b"), NULL, 0, 1));
    step("metric_null_labels", host->metric(HOT_GAUGE, TEXT("m"), NULL, 1, 1));
    step("metric_endless_labels", host->metric(HOT_GAUGE, TEXT("m"), &label, SIZE_MAX, 1));
    step("metric_nine_labels", host->metric(HOT_GAUGE, TEXT("m"), nine, 9, 1));
    step("metric_reserved", host->metric(HOT_GAUGE, TEXT("m"), &reserved, 1, 1));
    step("metric_null_value", host->metric(HOT_GAUGE, TEXT("m"), &null, 1, 1));
    step("metric_control", host->metric(HOT_GAUGE, TEXT("m"), &control, 1, 1));
    step("metric_not_utf8", host->metric(HOT_GAUGE, TEXT("m"), &binary, 1, 1));
    step("metric_twice", host->metric(HOT_GAUGE, TEXT("m"), twice, 2, 1));
    step("metric_as_a_gauge", host->metric(HOT_GAUGE, TEXT("m"), NULL, 0, 1));
    step("metric_other_kind", host->metric(HOT_COUNTER, TEXT("m"), &label, 1, 1));
    int taken = 0, refused = 0;
    for (int i = 0; i < 300; i++) {
        char value[16];
        hot_header numbered = {TEXT("n"), {(const uint8_t *)value, (size_t)snprintf(value, sizeof value, "%d", i)}};
        hot_status status = host->metric(HOT_COUNTER, TEXT("m_many"), &numbered, 1, 1);
        taken += status == HOT_OK, refused += status == HOT_TOO_LARGE;
    }
    step("metric_series_are_bounded", taken > 0 && taken < 256);
    step("metric_more_is_refused", taken + refused);
    step("metric_of_before_goes_on", host->metric(HOT_GAUGE, TEXT("m"), NULL, 0, 2));
}

/* What is wrong in itself is so of a cancelled exchange too, and what comes out of order is cancelled. */
static void cancelled(hot_exchange x) {
    const hot_header *headers;
    size_t number;
    step("cancelled_unknown_event", host->notify(x, 8, never, NULL));
    step("cancelled_null_wake", host->notify(x, HOT_READABLE, NULL, NULL));
    step("cancelled_null_body_read", host->body_read(x, 0, NULL));
    step("cancelled_unknown_flag", host->body_write(x, 4, TEXT("a"), &number));
    step("cancelled_bad_status", host->respond(x, 199, NULL, 0));
    step("cancelled_too_large", host->respond(x, 200, &too_large, 1));
    step("cancelled_trailers_too_large", host->trailers(x, &too_large, 1));
    step("cancelled_reply_too_large", host->reply(x, 200, &too_large, 1, NOTHING));
    step("cancelled_notify", host->notify(x, 0, never, NULL));
    step("cancelled_second_head", host->respond(x, 200, NULL, 0));
    step("cancelled_request_trailers", host->request_trailers(x, &headers, &number));
}

/* Four threads end one exchange: one of them has. */
#define RACERS 4
typedef struct {
    hot_exchange x;
    int ended;
} contest;

static void *race(void *argument) {
    contest *c = argument;
    hot_exchange x = c->x;
    hot_slice out;
    host->body_read(x, HOT_NONBLOCK, &out);
    host->notify(x, 0, ignore, NULL);
    if (host->reply(x, 200, NULL, 0, TEXT("one")) == HOT_OK)
        __atomic_add_fetch(&c->ended, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void *after(void *argument) {
    with_handle("after_the_end_elsewhere", ((const contest *)argument)->x);
    return NULL;
}

/* Runs that many threads to their end: how many of them ended the exchange. */
static int join(void *(*body)(void *), hot_exchange x, int number) {
    contest c = {x, 0};
    pthread_t threads[RACERS];
    for (int i = 0; i < number; i++)
        pthread_create(&threads[i], NULL, body, &c);
    for (int i = 0; i < number; i++)
        pthread_join(threads[i], NULL);
    return __atomic_load_n(&c.ended, __ATOMIC_SEQ_CST);
}

static void handle(void *self, hot_exchange x) {
    (void)self;
    hot_slice target;
    host->target(x, &target);
    if (is(target, "/misuses/all")) {
        handles(x);
        nowhere(x);
        lengths(x);
        heads(x);
        metrics();
        orders(x);
        with_handle("after_the_end", x);
        join(after, x, 1);
    } else if (is(target, "/misuses/race")) {
        step("one_ends_it", join(race, x, RACERS));
    } else if (is(target, "/misuses/endless")) {
        /* A response that never ends, as far as it is up to the module. */
        static uint8_t bytes[65536];
        const hot_header *headers;
        size_t number;
        step("trailers_of_a_body_that_was_not_read", host->request_trailers(x, &headers, &number));
        hot_status status = host->respond(x, 200, NULL, 0);
        while (status == HOT_OK)
            status = host->body_write(x, 0, (hot_slice){bytes, sizeof bytes}, NULL);
        step("endless_is_cancelled", status);
        cancelled(x);
        step("endless_ends", host->abort(x, NOTHING));
        step("endless_has_ended", host->finish(x));
    } else if (is(target, "/misuses/wild")) {
        host->reply(x, 200, NULL, 0, (hot_slice){(const uint8_t *)8, 10});
    } else if (is(target, "/misuses/keep")) {
        return;
    } else
        tell_report(x);
}

static hot_status start(const hot_host *services, hot_slice config, void **self, hot_slice *why) {
    (void)config, (void)self, (void)why;
    host = services;
    memset(large, 'v', sizeof large);
    with_handle("before_the_start", 1);
    return HOT_OK;
}

HOT_EXPORT const hot_table hot_module = {HOT_ABI, sizeof(hot_table), start, handle, NULL, NULL, NULL, NULL};
