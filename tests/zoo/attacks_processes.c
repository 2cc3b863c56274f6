/* Asked to, it tries to get at the node's processes: signals (0, which harms nobody), ptrace, their memory. */
#include "zoo.h"

#include <sys/ptrace.h>
#include <sys/uio.h>

static void attack(struct zoo_report *report, const char *whom, pid_t pid) {
    char name[64], byte, path[64];
    struct iovec here = {&byte, 1}, there = {(void *)0x400000, 1};
    snprintf(name, sizeof name, "signal.%s", whom);
    zoo_tried(report, name, kill(pid, 0) != 0);
    snprintf(name, sizeof name, "memory.%s", whom);
    /* EFAULT would mean that it may, and nothing is there. */
    long read = process_vm_readv(pid, &here, 1, &there, 1, 0);
    zoo_tried(report, name, read < 0 && errno != EFAULT);
    snprintf(name, sizeof name, "environment.%s", whom);
    snprintf(path, sizeof path, "/proc/%d/environ", pid);
    zoo_tried(report, name, open(path, O_RDONLY) < 0);
}

/* For this it is taken back at once. */
static void trace(struct zoo_report *report, const char *whom, pid_t pid) {
    char name[64];
    snprintf(name, sizeof name, "ptrace.%s", whom);
    long seized = ptrace(PTRACE_SEIZE, pid, NULL, NULL);
    zoo_tried(report, name, seized != 0);
    if (seized == 0)
        ptrace(PTRACE_DETACH, pid, NULL, NULL);
}

static void handle(void *self, hot_exchange exchange) {
    static const char *const all[] = {"hotd", "hot-spawn", "neighbour"};
    struct zoo_report report = {.len = 0};
    char pid[16];
    if (!zoo_is_asked(exchange)) {
        zoo_handle(self, exchange);
        return;
    }
    for (size_t each = 0; each < sizeof all / sizeof *all; each++)
        if (zoo_told(exchange, all[each], pid, sizeof pid))
            attack(&report, all[each], atoi(pid));
    for (size_t each = 0; each < sizeof all / sizeof *all; each++)
        if (zoo_told(exchange, all[each], pid, sizeof pid))
            trace(&report, all[each], atoi(pid));
    zoo_answer(exchange, &report);
}

ZOO(probe_start, handle, NULL);
