/*
 * Writes on the links between its host and the gateway, on its 10th request. KIND 0 writes noise, 1 the head of a frame of 4
 * GiB, 2 answers to exchanges that nobody asked for.
 */
#include "zoo.h"

#include <stdatomic.h>
#include <sys/socket.h>

/* A frame's head: its length, kind, flags, two bytes of nothing, and the exchange, in little endian (wire/src/data). */
static uint8_t frame[16 + 4];

static void fill(void) {
#if KIND == 0
    memset(frame, 0xa5, sizeof frame);
#elif KIND == 1
    memset(frame, 0xff, 4);
    frame[4] = 3;
#else
    frame[0] = 4;
    frame[4] = 3;
    frame[8] = 0x77;
#endif
}

static void forge(void) {
    fill();
    for (int descriptor = 5; descriptor < 256; descriptor++) {
        int type = 0, domain = 0;
        socklen_t len = sizeof type;
        if (getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &len) == 0 &&
            getsockopt(descriptor, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && type == SOCK_STREAM && domain == AF_UNIX)
            (void)!send(descriptor, frame, sizeof frame, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
}

static void handle(void *self, hot_exchange exchange) {
    static atomic_int served;
    if (atomic_fetch_add(&served, 1) == 10)
        forge();
    zoo_handle(self, exchange);
}

ZOO(probe_start, handle, NULL);
