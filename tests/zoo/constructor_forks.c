/* Leaves a process behind while it is loaded, in a session of its own, and ends. */
#include "zoo.h"

__attribute__((constructor)) static void leave(void) {
    if (fork() == 0) {
        setsid();
        if (fork() == 0)
            zoo_linger();
        _exit(0);
    }
    /* The child is a grandchild of nobody before its parent ends, which needs no wait. */
    _exit(3);
}

ZOO(probe_start, zoo_handle, NULL);
