// Drives module.cpp: test MODULE.so
#include "hot_testing.h"

#include <string>

namespace {

std::string body(const hot_test_response *response) { return {response->body, response->body_len}; }

hot_test_request to(const char *target) {
    hot_test_request request{};
    request.target = target;
    return request;
}

void requests() {
    hot_test_request request = to("/describe?name=Ada+L%C3%B6v%65%2&&b%20c");
    request.headers = "Accept: */*\nx-empty:\naccept: second\n";
    const hot_test_response *response = hot_test_send(request);
    HOT_CHECK_INT(response->status, 200);
    HOT_CHECK_TEXT(response->body,
                   "GET /describe?name=Ada+L%C3%B6v%65%2&&b%20c /describe name=Ada+L%C3%B6v%65%2&&b%20c "
                   "192.0.2.1:50000\naccept=*/*\nx-empty=\naccept=second\naccept: */*\nname: Ada L\xC3\xB6ve%2\n"
                   "bare: \nin time\n");
    HOT_CHECK_TEXT(hot_test_header(response, "x-two"), "2");

    response = hot_test_post("/body", "{}");
    HOT_CHECK_INT(response->status, 201);
    HOT_CHECK(body(response) == "{}" && std::string(hot_test_header(response, "location")) == "/bodies/1");
    HOT_CHECK_TEXT(hot_test_header(response, "content-type"), "application/json");
    response = hot_test_post("/body", std::string(65, 'x').c_str());
    HOT_CHECK_INT(response->status, 413);
    HOT_CHECK_TEXT(response->body, "the body is larger than 64 bytes\n");
}

void errors() {
    const hot_test_response *response = hot_test_get("/status");
    HOT_CHECK_INT(response->status, 404);
    HOT_CHECK_TEXT(response->body, "no such page\n");
    HOT_CHECK(hot_test_logged("debug: answered 404: no such page\n"));

    response = hot_test_get("/exception");
    HOT_CHECK_INT(response->status, 500);
    HOT_CHECK(response->complete && body(response).find("disk") == std::string::npos);
    HOT_CHECK(hot_test_logged("error: answered 500: the disk is gone\n"));
    HOT_CHECK_INT(hot_test_get("/int")->status, 500);
    HOT_CHECK(hot_test_logged("error: answered 500: something was thrown that is no std::exception\n"));

    response = hot_test_get("/drop");
    HOT_CHECK_INT(response->status, 500);
    HOT_CHECK_TEXT(response->aborted, "the exchange was dropped without an end");
    response = hot_test_get("/cut");
    HOT_CHECK(response->status == 200 && !response->complete && body(response) == "half");
    HOT_CHECK_TEXT(response->aborted, "half way");
    HOT_CHECK_TEXT(hot_test_get("/abort")->aborted, "by hand");
    HOT_CHECK(hot_test_logged("error: the handler failed after it had begun: half way\n"));

    HOT_CHECK_INT(hot_test_get("/refused")->status, 500);
    HOT_CHECK(hot_test_logged("error: answered 500: a status, header or argument that HTTP does not allow\n"));
    HOT_CHECK_INT(hot_test_get("/twice")->status, 200);
    HOT_CHECK_INT(hot_test_close(hot_test_open(to("/elsewhere")))->status, 200);
}

void streams(const char *path) {
    hot_test_request request = to(path);
    request.streamed = 1;
    request.window = 8;
    hot_test_exchange *exchange = hot_test_open(request);
    HOT_CHECK_INT(hot_test_head(exchange), 200);
    char piece[64];
    for (const char *text : {"one", "two", "three"}) {
        hot_test_write(exchange, text);
        std::string echoed;
        while (echoed.size() < std::string(text).size())
            echoed.append(piece, hot_test_read(exchange, piece, sizeof piece));
        HOT_CHECK(echoed == text);
    }
    // More than the window: the module must wait for its reader.
    const std::string large(1000, 'y');
    hot_test_write(exchange, large.c_str());
    hot_test_write_end(exchange, "X-Sum: 11\n");
    const hot_test_response *response = hot_test_close(exchange);
    HOT_CHECK(response->complete);
    HOT_CHECK(body(response) == "onetwothree" + large);
    if (std::string(path) == "/echo")
        HOT_CHECK_TEXT(hot_test_trailer(response, "x-sum"), "11");
}

void long_streams() {
    for (const char *target : {"/events", "/events/notice"}) {
        hot_test_exchange *exchange = hot_test_open(to(target));
        char piece[16] = {0};
        HOT_CHECK_INT(hot_test_read(exchange, piece, 9), 9);
        HOT_CHECK_TEXT(piece, "data: 1\n\n");
        hot_test_ask_to_end(exchange, 5000);
        const hot_test_response *response = hot_test_close(exchange);
        HOT_CHECK(response->complete);
        HOT_CHECK_TEXT(response->body, "data: 1\n\nevent: bye\n\n");
    }
    hot_test_exchange *exchange = hot_test_open(to("/not-events"));
    hot_test_ask_to_end(exchange, 5000);
    HOT_CHECK_TEXT(hot_test_close(exchange)->body, "bounded");
}

void connection() {
    HOT_CHECK_INT(hot_test_get("/connection")->status, 400);
    hot_test_request request = to("/connection");
    request.headers = "upgrade: echo/1\n";
    hot_test_exchange *exchange = hot_test_open(request);
    HOT_CHECK_INT(hot_test_head(exchange), 101);
    char piece[8] = {0};
    for (const char *text : {"one", "two"}) {
        hot_test_write(exchange, text);
        HOT_CHECK_INT(hot_test_read(exchange, piece, 3), 3);
        HOT_CHECK_TEXT(piece, text);
    }
    const hot_test_response *response = hot_test_close(exchange);
    HOT_CHECK(response->complete && body(response) == "onetwo");
    HOT_CHECK_TEXT(hot_test_header(response, "upgrade"), "echo/1");
}

void cancellation() {
    hot_test_request request = to("/gone");
    request.streamed = 1;
    hot_test_exchange *exchange = hot_test_open(request);
    char piece[8];
    HOT_CHECK_INT(hot_test_read(exchange, piece, sizeof piece), 4);
    hot_test_cancel(exchange);
    HOT_CHECK(!hot_test_close(exchange)->complete);
    HOT_CHECK(hot_test_logged("info: it was cancelled\n"));
    HOT_CHECK(!hot_test_logged("answered 500: the client is gone"));
}

void life() {
    HOT_CHECK(!hot_test_start("fail"));
    HOT_CHECK_TEXT(hot_test_why(), "the config is bad");
    const std::string kept = hot_test_why();
    HOT_CHECK(!hot_test_start("int"));
    HOT_CHECK_TEXT(hot_test_why(), "something was thrown that is no std::exception");

    HOT_CHECK(hot_test_start("sick"));
    HOT_CHECK_TEXT(hot_test_health(), "a cold, for the 1. time");
    HOT_CHECK_TEXT(hot_test_health(), "a cold, for the 2. time");
    HOT_CHECK(!hot_test_stop());

    HOT_CHECK(hot_test_start("stop"));
    HOT_CHECK(hot_test_health() == nullptr);
    HOT_CHECK(!hot_test_stop());
}

} // namespace

int main(int argc, char **argv) {
    if (argc != 2 || !hot_test_load(argv[1]))
        return 2;
    life();
    HOT_CHECK(hot_test_start("all"));
    requests();
    errors();
    HOT_CHECK_INT(hot_test_forgive(), 2); // /refused and /twice
    streams("/echo");
    streams("/notice");
    const hot_test_response *response = hot_test_get("/stream");
    HOT_CHECK(response->complete && body(response) == "012");
    HOT_CHECK_TEXT(hot_test_trailer(response, "x-rows"), "3");
    cancellation();
    long_streams();
    connection();
    HOT_CHECK_TEXT(hot_test_get("/metrics")->body, "kept");
    const hot_test_series *jobs = hot_test_metric("jobs_total", "code=200,kind=b");
    HOT_CHECK(jobs != nullptr && jobs->value == 2 && hot_test_metric("jobs_total", "")->value == 1);
    HOT_CHECK(hot_test_metric("depth", "")->value == 5 && hot_test_metric("seconds", "")->count == 1);
    if (hot_test_stop() != 0)
        return 1;

    // A host from before `metric` and `notify`.
    hot_test_old_host();
    HOT_CHECK(hot_test_start("old"));
    HOT_CHECK_TEXT(hot_test_get("/metrics")->body, "no metrics");
    hot_test_request request = to("/notice");
    request.streamed = 1;
    hot_test_exchange *exchange = hot_test_open(request);
    const hot_test_response *cut = hot_test_close(exchange);
    HOT_CHECK(cut->status == 200);
    return hot_test_stop();
}
