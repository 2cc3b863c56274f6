/* Tests of hello-c without a daemon: test hello-c.so */
#include "hot_testing.h"

static void greets(void) {
    const hot_test_response *response = hot_test_get("/hello");
    HOT_CHECK_INT(response->status, 200);
    HOT_CHECK_TEXT(response->body, "hello from hello-c 1.0.0\n");
    HOT_CHECK_TEXT(hot_test_header(response, "content-type"), "text/plain; charset=utf-8");
}

static void echoes(void) {
    hot_test_request request = {.target = "/hello/echo", .body = "piece by piece", .piece = 3};
    HOT_CHECK_TEXT(hot_test_send(request)->body, "piece by piece");
}

/* A client that leaves in the middle is no fault: hello-c ends the exchange and nothing breaks. */
static void survives_a_client_that_leaves(void) {
    hot_test_request request = {.target = "/hello/echo", .streamed = 1};
    hot_test_exchange *exchange = hot_test_open(request);
    HOT_CHECK_INT(hot_test_head(exchange), 200);
    hot_test_cancel(exchange);
    HOT_CHECK(!hot_test_close(exchange)->complete);
}

int main(int argc, char **argv) {
    if (argc != 2 || !hot_test_load(argv[1]))
        return 2;
    HOT_CHECK(hot_test_start(NULL));
    HOT_CHECK(hot_test_logged("hello-c 1.0.0 starts"));
    greets();
    echoes();
    survives_a_client_that_leaves();
    return hot_test_stop();
}
