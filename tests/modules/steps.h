/* What the modules that test the contract share: each step has a name, and a report says of each how it went. */
#ifndef STEPS_H
#define STEPS_H

#include "hot_module.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define TEXT(literal) ((hot_slice){(const uint8_t *)(literal), sizeof(literal) - 1})
#define NOTHING ((hot_slice){NULL, 0})

static const hot_host *host;

static const struct {
    const char *name;
    long expected;
} steps[] = {
#define SCENARIO(name)
#define STEP(name, expected) {#name, expected},
#include "steps.def"
#undef STEP
#undef SCENARIO
};

static char report[65536];
static size_t reported;
static pthread_mutex_t report_lock = PTHREAD_MUTEX_INITIALIZER;

/* Notes that the step of this name was answered so. One that is not in the list fails. */
static void step(const char *name, long found) {
    size_t length = strcspn(name, "."), i = 0, number = sizeof steps / sizeof *steps;
    while (i < number && (strlen(steps[i].name) != length || memcmp(steps[i].name, name, length) != 0))
        i++;
    pthread_mutex_lock(&report_lock);
    size_t room = sizeof report - reported;
    int written = i < number && found == steps[i].expected
                      ? snprintf(report + reported, room, "%s: ok\n", name)
                      : snprintf(report + reported, room, "%s: FAILED, %ld was not expected\n", name, found);
    if (written > 0 && (size_t)written < room)
        reported += (size_t)written;
    pthread_mutex_unlock(&report_lock);
}

static int is(hot_slice slice, const char *text) {
    return slice.len == strlen(text) && (slice.len == 0 || memcmp(slice.ptr, text, slice.len) == 0);
}

/* Answers with all steps since the last report. */
static void tell_report(hot_exchange x) {
    pthread_mutex_lock(&report_lock);
    host->reply(x, 200, NULL, 0, (hot_slice){(const uint8_t *)report, reported});
    reported = 0;
    pthread_mutex_unlock(&report_lock);
}

#endif
