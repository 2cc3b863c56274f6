/*
 * Speaks on the host's control socket. KIND 0 claims that it is ready and never is, 1 sends a message of a kind that there is
 * not, 2 sends as much as a packet holds, 3 claims once more that it is ready while it serves, 4 answers that it stops, 5 says
 * that its host could not confine itself, and ends.
 */
#include "zoo.h"

#include <stdatomic.h>
#include <sys/socket.h>

#define CONTROL 3
/* Ready: its kind, and the ABI as 32 bits. */
static const uint8_t ready[5] = {66, HOT_ABI};
static uint8_t giant[190 << 10] = {66};

static void forge(void) {
    static const uint8_t unknown[] = {201, 1, 2, 3};
    ssize_t sent = 0;
#if KIND == 1
    sent = send(CONTROL, unknown, sizeof unknown, MSG_NOSIGNAL);
#elif KIND == 2
    sent = send(CONTROL, giant, sizeof giant, MSG_NOSIGNAL);
#elif KIND == 4
    /* An answer on health: its kind, the question's number (8 bytes), the phase, that all is well, no text, and numbers. */
    static const uint8_t stops[31] = {68, [9] = 4, [10] = 1};
    sent = send(CONTROL, stops, sizeof stops, MSG_NOSIGNAL);
#elif KIND == 5
    /* That it failed: its kind, the stage, no text. */
    static const uint8_t failed[6] = {67, 5};
    sent = send(CONTROL, failed, sizeof failed, MSG_NOSIGNAL);
#else
    sent = send(CONTROL, ready, sizeof ready, MSG_NOSIGNAL);
#endif
    if (sent < 0)
        perror("forging");
    (void)unknown;
    (void)ready;
    (void)giant;
}

static hot_status start(const hot_host *services, hot_slice config, void **self, hot_slice *why) {
    if (KIND == 0) {
        forge();
        for (;;)
            pause();
    }
    if (KIND == 5) {
        forge();
        _exit(1);
    }
    return probe_start(services, config, self, why);
}

static void handle(void *self, hot_exchange exchange) {
    static atomic_int served;
    if (atomic_fetch_add(&served, 1) == 10)
        forge();
    zoo_handle(self, exchange);
}

ZOO(start, handle, NULL);
