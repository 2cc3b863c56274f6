/*
 * Drives the modules of tests/modules that use the contract in every order that they may (conforms.c) and may not
 * (misuses.c, with -DMISUSES): contract MODULE.so. host/tests/conformance.rs does the same with the real host, and the
 * steps must be answered alike (steps.def). What needs a gateway that does not read is left to it: here each exchange has a
 * stream of its own.
 */
#include "hot_testing.h"

static const struct {
    const char *name;
    int begins_scenario;
} lines[] = {
#define SCENARIO(name) {#name, 1},
#define STEP(name, expected) {#name, 0},
#include "steps.def"
#undef STEP
#undef SCENARIO
};

/* All that the module has reported. */
static char said[65536];

static hot_test_request ask(const char *target) {
    hot_test_request request;
    memset(&request, 0, sizeof request);
    request.target = target;
    request.headers = "x-test: yes\n";
    return request;
}

#ifdef MISUSES
#define REPORT "/misuses/report"
#else
#define REPORT "/conforms/report"
#endif

static void hear_report(void) {
    const hot_test_response *response = hot_test_get(REPORT);
    const size_t have = strlen(said);
    if (HOT_CHECK(have + response->body_len < sizeof said))
        memcpy(said + have, response->body, response->body_len + 1);
    if (!HOT_CHECK(strstr(said, "FAILED") == NULL)) {
        fputs(said, stderr);
        exit(1);
    }
}

/* Whether there is a line of that step, or of one of several by that name. */
static int is_reported(const char *step) {
    const size_t len = strlen(step);
    const char *line = said;
    while (*line != '\0') {
        if (strncmp(line, step, len) == 0 && (line[len] == ':' || line[len] == '.'))
            return 1;
        line += strcspn(line, "\n");
        line += *line == '\n';
    }
    return 0;
}

/* Waits for the report of a step, which may come from another thread of the module. */
static void until(const char *step) {
    unsigned times;
    for (times = 0; !is_reported(step) && times < 5000; times++) {
        const struct timespec millisecond = {0, 1000000};
        nanosleep(&millisecond, NULL);
        hear_report();
    }
    if (!HOT_CHECK(is_reported(step)))
        fprintf(stderr, "not reported: %s\n", step);
}

/* Waits for every step of a scenario. */
static void done(const char *scenario) {
    size_t i = 0, number = sizeof lines / sizeof *lines;
    while (i < number && !(lines[i].begins_scenario && strcmp(lines[i].name, scenario) == 0))
        i++;
    HOT_CHECK(i + 1 < number);
    for (i++; i < number && !lines[i].begins_scenario; i++)
        until(lines[i].name);
}

#ifdef MISUSES

/* Every misuse is refused as it is by the real host, and is reported too. */
static void misuses(void) {
    hot_test_request request = ask("/misuses/all");
    hot_test_exchange *x;
    int i;
    done("before_the_start");
    HOT_CHECK(hot_test_forgive() > 0);
    request.method = "GET";
    request.body = "some body";
    HOT_CHECK_TEXT(hot_test_send(request)->body, "");
    done("all");
    HOT_CHECK(hot_test_forgive() > 200);
    for (i = 0; i < 20; i++) {
        HOT_CHECK_TEXT(hot_test_get("/misuses/race")->body, "one");
        done("race");
    }
    x = hot_test_open(ask("/misuses/endless"));
    HOT_CHECK_INT(hot_test_head(x), 200);
    hot_test_cancel(x);
    HOT_CHECK(!hot_test_close(x)->complete);
    done("endless");
    hot_test_forgive();
}

int main(int argc, char **argv) {
    if (argc != 2 || !hot_test_load(argv[1]))
        return 2;
    HOT_CHECK(hot_test_start("some config"));
    misuses();
    return hot_test_stop();
}

#else

static void whole(void) {
    hot_test_request request = ask("/conforms/whole?a=b");
    const hot_test_response *response;
    request.method = "GET";
    request.body = "some body";
    response = hot_test_send(request);
    HOT_CHECK_INT(response->status, 201);
    HOT_CHECK_TEXT(response->body, "some body");
    HOT_CHECK_TEXT(hot_test_header(response, "x-own"), "");
    HOT_CHECK(hot_test_logged("debug: conforms"));
    HOT_CHECK(hot_test_metric("conforms_total", "path=whole") != NULL);
    HOT_CHECK(hot_test_metric("conforms_level", "a=1,b=2")->value < 0);
    done("whole");
    HOT_CHECK_TEXT(hot_test_get("/conforms/later")->body, "later");
    done("later");
}

static void stream(void) {
    hot_test_request request = ask("/conforms/stream");
    const hot_test_response *response;
    hot_test_exchange *x;
    char piece[16] = {0};
    request.streamed = 1;
    x = hot_test_open(request);
    HOT_CHECK_INT(hot_test_head(x), 200);
    hot_test_write(x, "one");
    HOT_CHECK_INT(hot_test_read(x, piece, 3), 3);
    HOT_CHECK_TEXT(piece, "one");
    hot_test_write(x, "twothree");
    hot_test_write_end(x, "x-came: 1\n");
    response = hot_test_close(x);
    HOT_CHECK(response->complete);
    HOT_CHECK_TEXT(response->body, "onetwothree!");
    HOT_CHECK_TEXT(hot_test_trailer(response, "x-sum"), "6");
    done("stream");
}

static void nonblocking(void) {
    hot_test_request request = ask("/conforms/async");
    hot_test_exchange *x;
    request.streamed = 1;
    x = hot_test_open(request);
    HOT_CHECK_INT(hot_test_head(x), 200); /* it has found nothing to read by then */
    hot_test_write(x, "1234");
    hot_test_write(x, "5678");
    hot_test_write_end(x, NULL);
    until("async_write_would_block");
    HOT_CHECK_INT(hot_test_close(x)->body_len, 8000000);
    done("async");
}

static void ends(void) {
    hot_test_request request = ask("/conforms/abort-waiting");
    const hot_test_response *response;
    request.body = "x";
    response = hot_test_send(request);
    HOT_CHECK_INT(response->status, 500);
    HOT_CHECK_TEXT(response->aborted, "while waiting");
    response = hot_test_get("/conforms/abort-body");
    HOT_CHECK(!response->complete);
    HOT_CHECK_TEXT(response->body, "part");
    HOT_CHECK_TEXT(response->aborted, "in the body");
    HOT_CHECK(!hot_test_get("/conforms/abort-trailers")->complete);
    done("abort_waiting");
    done("abort_body");
    done("abort_trailers");
}

static void given_up(void) {
    hot_test_request request = ask("/conforms/given-up");
    hot_test_exchange *x;
    request.streamed = 1;
    x = hot_test_open(request);
    until("given_up_target");
    hot_test_cancel(x);
    HOT_CHECK(!hot_test_close(x)->complete);
    done("given_up");

    /* By its deadline, of which the module must hear in time: else it is a breach, an exchange that was never ended. */
    said[0] = '\0';
    request.deadline_ms = 200;
    x = hot_test_open(request);
    done("given_up");
    HOT_CHECK_INT(hot_test_close(x)->status, 504);
}

int main(int argc, char **argv) {
    if (argc != 2 || !hot_test_load(argv[1]))
        return 2;
    HOT_CHECK(hot_test_start("some config"));
    done("start");
    whole();
    stream();
    nonblocking();
    ends();
    given_up();
    HOT_CHECK(hot_test_health() == NULL);
    return hot_test_stop();
}

#endif
