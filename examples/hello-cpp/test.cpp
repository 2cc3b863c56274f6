// Tests of hello-cpp without a daemon: test hello-cpp.so
#include "hot_testing.h"

#include <string>

namespace {

void greets() {
    HOT_CHECK_TEXT(hot_test_get("/hello-cpp")->body, "hello Grace from hello-cpp 1.0.0\n");
    HOT_CHECK_TEXT(hot_test_get("/hello-cpp?name=Ada%20L")->body, "hello Ada L from hello-cpp 1.0.0\n");
    HOT_CHECK(hot_test_metric("greetings_total", "")->value == 2);
}

void answers_json() {
    const hot_test_response *response = hot_test_post("/hello-cpp/json", "a \"b\"\n");
    HOT_CHECK_TEXT(response->body, "{\"method\":\"POST\",\"bytes\":6,\"text\":\"a \\\"b\\\"\\u000a\"}\n");
    HOT_CHECK_TEXT(hot_test_header(response, "content-type"), "application/json");
    HOT_CHECK_INT(hot_test_get("/hello-cpp/json")->status, 405);
    const std::string large(64 * 1024 + 1, 'x');
    HOT_CHECK_INT(hot_test_post("/hello-cpp/json", large.c_str())->status, 413);
}

void streams() {
    hot_test_request request{};
    request.target = "/hello-cpp/upper";
    request.streamed = 1;
    hot_test_exchange *exchange = hot_test_open(request);
    HOT_CHECK_INT(hot_test_head(exchange), 200);
    char piece[8];
    for (const char *word : {"one", "two"}) { // each comes back before the next is sent
        hot_test_write(exchange, word);
        HOT_CHECK_INT(hot_test_read(exchange, piece, sizeof piece), 3);
    }
    hot_test_write(exchange, "three");
    HOT_CHECK_TEXT(hot_test_close(exchange)->body, "ONETWOTHREE");
}

void fails_as_it_should() {
    HOT_CHECK_INT(hot_test_get("/hello-cpp/nowhere")->status, 404);
    const hot_test_response *response = hot_test_get("/hello-cpp/oops");
    HOT_CHECK_INT(response->status, 500);
    HOT_CHECK(std::string(response->body).find("database") == std::string::npos);
    HOT_CHECK(hot_test_logged("the database is gone"));
}

} // namespace

int main(int argc, char **argv) {
    if (argc != 2 || !hot_test_load(argv[1]))
        return 2;
    HOT_CHECK(!hot_test_start("two\nlines"));
    HOT_CHECK_TEXT(hot_test_why(), "the config is the name to greet: found several lines, expected one");
    HOT_CHECK(hot_test_start("Grace"));
    greets();
    answers_json();
    streams();
    fails_as_it_should();
    HOT_CHECK(hot_test_health() == nullptr);
    return hot_test_stop();
}
