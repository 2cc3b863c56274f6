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
    never_ended();
    lent_reasons();
    return hot_test_stop();
}
