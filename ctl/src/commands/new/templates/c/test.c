/* Tests of the module that was built, without a daemon. include/hot_testing.h says what there is. */
#include "hot_testing.h"

static void greets(void) {
    const hot_test_response *response = hot_test_get("/module-name?x=1");
    HOT_CHECK_INT(response->status, 200);
    HOT_CHECK_TEXT(response->body, "good day from module-name 0.1.0\n");
    HOT_CHECK_TEXT(hot_test_header(response, "content-type"), "text/plain; charset=utf-8");
    HOT_CHECK_INT(hot_test_get("/module-name/nowhere")->status, 404);
}

static void echoes_piece_by_piece(void) {
    hot_test_request request = {.target = "/module-name/echo", .streamed = 1};
    hot_test_exchange *exchange = hot_test_open(request);
    char back[8];
    hot_test_write(exchange, "one");
    HOT_CHECK_INT(hot_test_read(exchange, back, sizeof back), 3); /* before the rest is sent */
    hot_test_write(exchange, "two");
    HOT_CHECK_TEXT(hot_test_close(exchange)->body, "onetwo");
}

int main(int argc, char **argv) {
    if (argc != 2 || !hot_test_load(argv[1]))
        return 2;
    HOT_CHECK(!hot_test_start("two\nlines"));
    HOT_CHECK_TEXT(hot_test_why(), "the config is the greeting: found several lines, expected one");
    HOT_CHECK(hot_test_start("good day"));
    greets();
    echoes_piece_by_piece();
    return hot_test_stop();
}
