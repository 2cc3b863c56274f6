/* Prints a gigabyte to its standard output, as fast as that is taken, while it serves. */
#include "zoo.h"

#include <pthread.h>

static void *print(void *unused) {
    static char line[65536];
    (void)unused;
    memset(line, 'x', sizeof line);
    line[sizeof line - 1] = '\n';
    for (unsigned long left = 1ul << 30; left > 0;) {
        ssize_t wrote = write(1, line, sizeof line);
        if (wrote < 0 && errno != EINTR && errno != EAGAIN)
            break;
        if (wrote > 0)
            left -= left < (unsigned long)wrote ? left : (unsigned long)wrote;
    }
    return NULL;
}

static hot_status start(const hot_host *services, hot_slice config, void **self, hot_slice *why) {
    pthread_t thread;
    return pthread_create(&thread, NULL, print, NULL) == 0 ? probe_start(services, config, self, why) : HOT_FAILED;
}

ZOO(start, zoo_handle, NULL);
