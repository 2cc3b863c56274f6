/* Asks to be called when its process exits, and does not return from that. */
#include "zoo.h"

static void never_ends(void) {
    for (;;)
        pause();
}

static hot_status start(const hot_host *services, hot_slice config, void **self, hot_slice *why) {
    return atexit(never_ends) == 0 ? probe_start(services, config, self, why) : HOT_FAILED;
}

ZOO(start, zoo_handle, NULL);
