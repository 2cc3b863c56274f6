/* Lets nothing but SIGKILL end it: signals are ignored, and `stop` never returns. */
#include "zoo.h"

static hot_status start(const hot_host *services, hot_slice config, void **self, hot_slice *why) {
    for (int number = 1; number < 32; number++)
        signal(number, SIG_IGN);
    return probe_start(services, config, self, why);
}

static void stop(void *self) {
    (void)self;
    for (;;)
        pause();
}

HOT_EXPORT const hot_table hot_module = {
    .abi = HOT_ABI, .size = sizeof(hot_table), .start = start, .handle = zoo_handle, .stop = stop};
