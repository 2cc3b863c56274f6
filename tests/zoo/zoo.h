/*
 * What the animals of the zoo share, beside what they have of ../modules/probe.h: the table of a module, what a request
 * tells them, marks by which what they leave behind is found, and a bound on all that they start.
 *
 * Nothing here may harm the machine, not even where the product's protection is off: what is started ends by itself after
 * ZOO_SECONDS, what is taken stops at MOST, and a signal to another process is signal 0, which only asks.
 */
#ifndef ZOO_H
#define ZOO_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "probe.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

/* So begins the name of everything that is left behind. */
#define ZOO_MARK "hot-zoo-left"
#define ZOO_SECONDS 60

#define ZOO(start_function, handle_function, health_function)                                                          \
    HOT_EXPORT const hot_table hot_module = {.abi = HOT_ABI,                                                           \
                                             .size = sizeof(hot_table),                                                \
                                             .start = start_function,                                                  \
                                             .handle = handle_function,                                                \
                                             .health = health_function}

static inline void zoo_handle(void *self, hot_exchange exchange) {
    (void)self;
    answer(exchange, 200);
}

/* The life of a process that was started here and is not to be found. */
static inline void zoo_linger(void) {
    prctl(PR_SET_NAME, ZOO_MARK, 0, 0, 0);
    alarm(ZOO_SECONDS);
    for (;;)
        pause();
}

/* The value of `key` in the query of the request, without any decoding; 0 if it is not there. */
static inline int zoo_told(hot_exchange exchange, const char *key, char *value, size_t room) {
    hot_slice target;
    if (host->target(exchange, &target) != HOT_OK)
        return 0;
    char *text = strndup((const char *)target.ptr, target.len), *rest = text, *part;
    int found = 0;
    strsep(&rest, "?");
    while (!found && (part = strsep(&rest, "&")) != NULL)
        if (strncmp(part, key, strlen(key)) == 0 && part[strlen(key)] == '=') {
            snprintf(value, room, "%s", part + strlen(key) + 1);
            found = 1;
        }
    free(text);
    return found;
}

/* What was tried, a line each: `NAME ok` or `NAME EPERM`. Each is printed as well, behind `zoo `: who is taken back for what it
 * tried may not come to an answer. */
struct zoo_report {
    char text[4096];
    size_t len;
};

static inline void zoo_tried(struct zoo_report *report, const char *name, int failed) {
    const char *how = failed ? strerrorname_np(errno) : "ok";
    fprintf(stderr, "zoo %s %s\n", name, how);
    int len = snprintf(report->text + report->len, sizeof report->text - report->len, "%s %s\n", name, how);
    if (len > 0 && report->len + (size_t)len < sizeof report->text)
        report->len += (size_t)len;
}

/* A request that tells nothing is one of the load. */
static inline int zoo_is_asked(hot_exchange exchange) {
    char value[8];
    return zoo_told(exchange, "try", value, sizeof value);
}

static inline void zoo_answer(hot_exchange exchange, const struct zoo_report *report) {
    const hot_header version = {TEXT("x-zoo"), TEXT(VERSION)};
    (void)host->reply(exchange, 200, &version, 1, (hot_slice){(const uint8_t *)report->text, report->len});
}

#endif
