/* Has threads that run for ever, whatever it is told. */
#include "zoo.h"

#include <pthread.h>

static void *run(void *unused) {
    (void)unused;
    for (;;)
        usleep(1000);
    return NULL;
}

static hot_status start(const hot_host *services, hot_slice config, void **self, hot_slice *why) {
    for (int each = 0; each < 8; each++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, run, NULL) != 0)
            return HOT_FAILED;
    }
    return probe_start(services, config, self, why);
}

ZOO(start, zoo_handle, NULL);
