/* Has a destructor in every thread that called it, which does not end. */
#include "zoo.h"

#include <pthread.h>

static pthread_key_t key;

static void never_ends(void *value) {
    (void)value;
    for (;;)
        pause();
}

static hot_status start(const hot_host *services, hot_slice config, void **self, hot_slice *why) {
    return pthread_key_create(&key, never_ends) == 0 ? probe_start(services, config, self, why) : HOT_FAILED;
}

static void handle(void *self, hot_exchange exchange) {
    pthread_setspecific(key, &key);
    zoo_handle(self, exchange);
}

ZOO(start, handle, NULL);
