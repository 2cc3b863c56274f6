/*
 * Leaves behind what outlives a process, one of: KIND 0 a file in /tmp, 1 a POSIX shared memory, 2 a System V shared memory,
 * 3 a socket with a path. What it is not let do it does without.
 */
#include "zoo.h"

#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/un.h>

/* The test looks for it in /proc/sysvipc/shm. */
#define ZOO_KEY 0x686f7a6f

static void leave(void) {
#if KIND == 0
    int left = open("/tmp/" ZOO_MARK, O_CREAT | O_RDWR, 0600);
#elif KIND == 1
    int left = shm_open("/" ZOO_MARK, O_CREAT | O_RDWR, 0600);
#elif KIND == 2
    int left = shmget(ZOO_KEY, 4096, IPC_CREAT | 0600);
#else
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/tmp/" ZOO_MARK};
    int left = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(left, (struct sockaddr *)&address, sizeof address) != 0)
        perror("a socket with a path");
#endif
    if (left < 0)
        perror("what was to be left");
}

static hot_status start(const hot_host *services, hot_slice config, void **self, hot_slice *why) {
    leave();
    return probe_start(services, config, self, why);
}

ZOO(start, zoo_handle, NULL);
