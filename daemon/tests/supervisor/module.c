/* A module whose config says what it does: fail, hang, exit or crash in start, be unhealthy once it runs, or forge what
   its host says, over the host's own control socket. */
#include "hot_module.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

HOT_MODULE_METADATA("subject", "1.0.0", "routes = [\"/\"]\n");

#define TEXT(literal) ((hot_slice){(const uint8_t *)(literal), sizeof(literal) - 1})

static const hot_host *host;
static hot_slice config;

/* A real fault: one that is only raised would be survived, since Rust's own handler returns to try it again. */
static void crash(void) { *(volatile int *)8 = 1; }

static int is(const char *what) { return config.len == strlen(what) && memcmp(config.ptr, what, config.len) == 0; }

/* The host's control socket. */
enum { CONTROL = 3 };
/* Bytes of a packet that is longer than any message. */
enum { GIANT = 160 * 1024 };

static void forge(const void *packet, size_t len) {
    if (send(CONTROL, packet, len, 0) != (ssize_t)len)
        perror("a forged packet was not sent");
}

/* Kind and ABI. */
static const uint8_t ready[] = {66, 1, 0, 0, 0};

static hot_status start(const hot_host *services, hot_slice given, void **self, hot_slice *why) {
    (void)self;
    host = services;
    config = given;
    printf("starting with %.*s\n", (int)config.len, (const char *)config.ptr);
    fflush(stdout);
    if (is("fail")) {
        *why = TEXT("the subject was told to fail");
        return HOT_FAILED;
    }
    if (is("hang"))
        for (;;)
            pause();
    if (is("exit"))
        _exit(3);
    if (is("crash"))
        crash();
    if (is("forge ready")) {
        forge(ready, sizeof ready);
        for (;;)
            pause();
    }
    if (is("forge ready twice")) {
        forge(ready, sizeof ready);
        forge(ready, sizeof ready);
    }
    if (is("forge rubbish"))
        forge("\377rubbish", 8);
    if (is("forge a giant")) {
        static const uint8_t giant[GIANT];
        int size = 2 * GIANT;
        setsockopt(CONTROL, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
        forge(giant, sizeof giant);
    }
    if (is("close")) {
        shutdown(CONTROL, SHUT_WR);
        for (;;)
            pause();
    }
    return HOT_OK;
}

static void handle(void *self, hot_exchange exchange) {
    (void)self;
    hot_slice target;
    if (host->target(exchange, &target) == HOT_OK && target.len == 6 && memcmp(target.ptr, "/crash", 6) == 0)
        crash();
    if (is("flood"))
        for (int line = 0; line < 100000; line++)
            puts("a line of the flood, which nobody may have to wait for");
    host->reply(exchange, 200, NULL, 0, config);
}

static hot_status health(void *self, hot_slice *why) {
    (void)self;
    if (!is("unhealthy"))
        return HOT_OK;
    *why = TEXT("the subject was told to be unhealthy");
    return HOT_FAILED;
}

HOT_EXPORT const hot_table hot_module = {
    .abi = HOT_ABI, .size = sizeof(hot_table), .start = start, .handle = handle, .health = health};
