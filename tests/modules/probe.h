/*
 * What the modules of the tests share: a name, a version and a route that are set when they are built, and an answer
 * that names both. A source that misbehaves says only how.
 *
 * Settings: VERSION (always given), NAME ("probe"), ROUTE ("/NAME"), CONSTRUCTED (a socket that hears of it when any code of the module runs).
 */
#ifndef PROBE_H
#define PROBE_H

#include "hot_module.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef NAME
#define NAME "probe"
#endif

#ifndef ROUTE
#define ROUTE "/" NAME
#endif

HOT_MODULE_METADATA(NAME, VERSION, "routes = [\"" ROUTE "\"]\n");

#define TEXT(literal) ((hot_slice){(const uint8_t *)(literal), sizeof(literal) - 1})

/* The host's services. Written once, in start, before any other call. */
static const hot_host *host;

/* `NAME VERSION`, the answer of one that does what it should. */
static inline void answer(hot_exchange exchange, uint32_t status) {
    const hot_header type = {TEXT("content-type"), TEXT("text/plain")};
    (void)host->reply(exchange, status, &type, 1, TEXT(NAME " " VERSION "\n"));
}

static inline hot_status probe_start(const hot_host *services, hot_slice config, void **self, hot_slice *why) {
    (void)config;
    (void)self;
    (void)why;
    host = services;
    return HOT_OK;
}

#ifdef CONSTRUCTED
/* Proves whether any code of this file has run: the loader calls this before anything else. */
__attribute__((constructor)) static void constructed(void) {
    /* In one piece in the file, where tests replace it: the compiler may not know what it is. */
    static const char *volatile const path = CONSTRUCTED;
    struct sockaddr_un marker = {AF_UNIX, ""};
    strncpy(marker.sun_path, path, sizeof marker.sun_path - 1);
    int socket_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (socket_ >= 0) {
        /* One that has heard of it often enough is full. */
        (void)sendto(socket_, "", 1, MSG_DONTWAIT, (const struct sockaddr *)&marker, sizeof marker);
        close(socket_);
    }
}
#endif

#endif
