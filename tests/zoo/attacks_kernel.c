/* Asked to, it tries calls of the kernel that no server needs. */
#include "zoo.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* In a child, as it would not come back from one that is let through. */
static int execute(void) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        char *const arguments[] = {(char *)"true", NULL};
        execv("/bin/true", arguments);
        _exit(errno);
    }
    waitpid(child, &status, 0);
    errno = WEXITSTATUS(status);
    return errno;
}

/* In a child, which alone would be in the other place. */
static int leave_namespace(void) {
    int status = 0;
    pid_t child = fork();
    if (child == 0)
        _exit(unshare(CLONE_NEWNET) == 0 ? 0 : errno);
    waitpid(child, &status, 0);
    errno = WEXITSTATUS(status);
    return errno;
}

static void handle(void *self, hot_exchange exchange) {
    struct zoo_report report = {.len = 0};
    char ring[256] = {0};
    if (!zoo_is_asked(exchange)) {
        zoo_handle(self, exchange);
        return;
    }
    zoo_tried(&report, "execve", execute() != 0);
    zoo_tried(&report, "io_uring", syscall(SYS_io_uring_setup, 1, ring) < 0);
    zoo_tried(&report, "socket.raw", socket(AF_INET, SOCK_RAW, 1) < 0);
    zoo_tried(&report, "socket.packet", socket(AF_PACKET, SOCK_RAW, 0) < 0);
    /* For each of these it is taken back at once. */
    /* Onto a folder that is not there: who may mount gets ENOENT. */
    int mounted = mount("none", "/hot-zoo-nowhere", "tmpfs", 0, NULL);
    zoo_tried(&report, "mount", mounted != 0 && errno != ENOENT);
    zoo_tried(&report, "unshare", leave_namespace() != 0);
    zoo_tried(&report, "bpf", syscall(SYS_bpf, 0, ring, sizeof ring) < 0 && errno != EINVAL);
    zoo_answer(exchange, &report);
}

ZOO(probe_start, handle, NULL);
