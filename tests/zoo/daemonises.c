/* Has a child that is nobody's child any more, in a session of its own. */
#include "zoo.h"

#include <sys/wait.h>

static hot_status start(const hot_host *services, hot_slice config, void **self, hot_slice *why) {
    pid_t child = fork();
    if (child == 0) {
        setsid();
        if (fork() == 0)
            zoo_linger();
        _exit(0);
    }
    waitpid(child, NULL, 0);
    return probe_start(services, config, self, why);
}

ZOO(start, zoo_handle, NULL);
