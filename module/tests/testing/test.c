/* Drives misuses.c: test MODULE.so. Every breach is reported, once, and what is no breach is not. */
#include "hot_testing.h"

/* One breach, and the client is answered all the same. */
static void sinned(const char *target, int breaches, unsigned status) {
    const hot_test_response *response = hot_test_get(target);
    if (!HOT_CHECK_INT(hot_test_forgive(), breaches) || !HOT_CHECK_INT(response->status, status))
        fprintf(stderr, "that was %s\n", target);
}

static void never_ended(void) {
    hot_test_request request;
    const hot_test_response *response;
    memset(&request, 0, sizeof request);
    request.target = "/never";
    request.deadline_ms = 50;
    response = hot_test_send(request);
    HOT_CHECK_INT(response->status, 504);
    HOT_CHECK(!response->complete);
    HOT_CHECK_INT(hot_test_forgive(), 1);

    /* A thread of the module that still waits when the test is over is not pulled the ground from under. */
    request.target = "/waits";
    request.streamed = 1;
    HOT_CHECK_INT(hot_test_close(hot_test_open(request))->status, 504);
    HOT_CHECK_INT(hot_test_forgive(), 1);
}

static hot_test_request upgrade(const char *target) {
    hot_test_request request;
    memset(&request, 0, sizeof request);
    request.target = target;
    request.headers = "Upgrade: one, two\n";
    return request;
}

static void connections(void) {
    static const char *const once[] = {"/upgrade/reply", "/upgrade/length", "/upgrade/other", "/upgrade/trailers",
                                       "/upgrade/request-trailers"};
    const hot_test_response *response;
    hot_test_exchange *x;
    char piece[16] = {0};
    size_t i;
    x = hot_test_open(upgrade("/upgrade"));
    hot_test_write(x, "early");
    HOT_CHECK_INT(hot_test_head(x), 101);
    HOT_CHECK_INT(hot_test_read(x, piece, 5), 5);
    HOT_CHECK_TEXT(piece, "early");
    hot_test_write(x, "late");
    HOT_CHECK_INT(hot_test_read(x, piece, 4), 4);
    hot_test_write_end(x, NULL);
    response = hot_test_close(x);
    HOT_CHECK(response->complete);
    HOT_CHECK_TEXT(response->body, "earlylate");
    HOT_CHECK_TEXT(hot_test_header(response, "upgrade"), "one, two");
    HOT_CHECK_TEXT(hot_test_header(hot_test_send(upgrade("/upgrade/choose")), "upgrade"), "two");
    HOT_CHECK_INT(hot_test_forgive(), 0);
    for (i = 0; i < sizeof once / sizeof *once; i++) {
        HOT_CHECK_INT(hot_test_send(upgrade(once[i]))->status, 101);
        if (!HOT_CHECK_INT(hot_test_forgive(), 1))
            fprintf(stderr, "that was %s\n", once[i]);
    }
    sinned("/upgrade", 1, 400); /* which the request did not ask for */
}

static void endings(void) {
    hot_test_request request = upgrade("/events");
    hot_test_exchange *x;
    char piece[16] = {0};
    request.headers = NULL;
    request.deadline_ms = 5000;
    x = hot_test_open(request);
    HOT_CHECK_INT(hot_test_read(x, piece, 8), 8);
    HOT_CHECK_TEXT(piece, "endless\n");
    hot_test_ask_to_end(x, 5000);
    HOT_CHECK_INT(hot_test_read(x, piece, 4), 4);
    HOT_CHECK(hot_test_close(x)->complete);

    /* One that goes on is cut off when that time is over. */
    request.target = "/events/deaf";
    request.streamed = 1;
    x = hot_test_open(request);
    HOT_CHECK_INT(hot_test_read(x, piece, 8), 8);
    hot_test_ask_to_end(x, 20);
    HOT_CHECK_INT(hot_test_read(x, piece, 8), 0);
    HOT_CHECK(!hot_test_close(x)->complete);

    /* And whoever was asked before the head is asked as soon as it is one. */
    request.target = "/events";
    x = hot_test_open(request);
    hot_test_ask_to_end(x, 5000);
    HOT_CHECK_INT(hot_test_head(x), 200);
    HOT_CHECK(hot_test_close(x)->complete);
    HOT_CHECK_INT(hot_test_forgive(), 0);
}

static void clock_of_the_module(void) {
    hot_test_request request = upgrade("/times");
    hot_test_exchange *x, made;
    char piece[16] = {0};
    request.headers = NULL;
    request.streamed = 1;
    x = hot_test_open(request);
    HOT_CHECK_INT(hot_test_read(x, piece, 6), 6);
    HOT_CHECK_TEXT(piece, "still ");
    hot_test_write_end(x, NULL);
    HOT_CHECK_TEXT(hot_test_close(x)->body, "still runs");

    /* However long it stands still: three seconds, of a client that moves, and then ten. */
    memset(&made, 0, sizeof made);
    made.time_ms = 10000;
    made.deadline = hot_t_in(made.time_ms);
    hot_t_tick(&made);
    made.still_since.tv_sec -= 3;
    made.still_until.tv_sec -= 3;
    made.has_moved = 1;
    hot_t_tick(&made);
    HOT_CHECK(hot_t_left(made.deadline) > 12000000000u && hot_t_left(made.still_until) > 9000000000u);
    made.still_until.tv_sec -= 10;
    hot_t_tick(&made);
    HOT_CHECK(hot_t_is_over_time(&made));

    /* Also until what was written is taken. */
    made.in_whole = made.is_read = 1;
    made.out.len = 5;
    hot_t_tick(&made);
    HOT_CHECK(made.is_still);
    made.out_taken = 5;
    hot_t_tick(&made);
    HOT_CHECK(!made.is_still);
}

static void lent_reasons(void) {
    HOT_CHECK_TEXT(hot_test_health(), "A cold");
    HOT_CHECK_INT(hot_test_forgive(), 0);
    HOT_CHECK_TEXT(hot_test_health(), "a cold");
    HOT_CHECK_INT(hot_test_forgive(), 0);
    hot_test_get("/reason"); /* changes it while it is lent */
    HOT_CHECK_TEXT(hot_test_health(), "a cold");
    HOT_CHECK_INT(hot_test_forgive(), 1);
}

static void starts(void) {
    HOT_CHECK(!hot_test_start("mute"));
    HOT_CHECK_INT(hot_test_forgive(), 1);
    HOT_CHECK(!hot_test_start("odd"));
    HOT_CHECK_TEXT(hot_test_why(), "odd");
    HOT_CHECK_INT(hot_test_forgive(), 1);
}

static void tables(void) {
    static const hot_table other_abi = {HOT_ABI + 9, sizeof(hot_table), NULL, NULL, NULL, NULL, NULL, NULL};
    static const hot_table no_start = {HOT_ABI, sizeof(hot_table), NULL, NULL, NULL, NULL, NULL, NULL};
    HOT_CHECK(!hot_test_use(&other_abi));
    HOT_CHECK(!hot_test_use(&no_start));
    HOT_CHECK(!hot_test_use(NULL));
    HOT_CHECK_INT(hot_test_forgive(), 3);
}

int main(int argc, char **argv) {
    static const char *const once[] = {"/twice", "/made-up", "/short", "/wake", "/order/body", "/order/finish",
                                       "/order/request-trailers", "/order/head", "/order/trailers", "/null/out",
                                       "/null/body", "/null/written", "/null/wake", "/flag", "/event", "/level",
                                       "/status", "/kind", "/metric", "/negative", "/label", "/header/name",
                                       "/header/value", "/header/hop"};
    size_t i;
    tables();
    if (argc != 2 || !hot_test_load(argv[1]))
        return 2;
    starts();
    HOT_CHECK(hot_test_start(NULL));
    for (i = 0; i < sizeof once / sizeof *once; i++)
        sinned(once[i], 1, 200);
    sinned("/late", 1, 500);
    sinned("/promised", 0, 200);
    sinned("/many", 0, 200);
    sinned("/endless", 1, 200);
    sinned("/histogram", 0, 200);
    sinned("/histogram/part", 1, 200);
    sinned("/counter", 0, 200);
    sinned("/counter/whole", 1, 200);
    connections();
    endings();
    clock_of_the_module();
    never_ended();
    lent_reasons();
    return hot_test_stop();
}
