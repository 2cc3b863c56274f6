/* Prints a gigabyte to its standard output before its `start` returns. */
#include "zoo.h"

static hot_status start(const hot_host *services, hot_slice config, void **self, hot_slice *why) {
    static char line[65536];
    memset(line, 'x', sizeof line);
    line[sizeof line - 1] = '\n';
    for (unsigned long left = 1ul << 30; left > 0;) {
        ssize_t wrote = write(1, line, sizeof line);
        if (wrote < 0 && errno != EINTR && errno != EAGAIN)
            break;
        if (wrote > 0)
            left -= left < (unsigned long)wrote ? left : (unsigned long)wrote;
    }
    return probe_start(services, config, self, why);
}

ZOO(start, zoo_handle, NULL);
