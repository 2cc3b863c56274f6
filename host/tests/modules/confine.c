/* A module that tries what it may not do: the path says what, as /WHAT/ARGUMENT, and the answer is the errno that it
 * got, or 0. */
#define _GNU_SOURCE
#include "hot_module.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

HOT_MODULE_METADATA("confine", "1.0.0", "routes = [\"/\"]\n");

static const hot_host *host;
static int constructed;

static int try_read(const char *path) {
    char byte;
    int fd = open(path, O_RDONLY | O_CLOEXEC), error = 0;
    if (fd < 0)
        return errno;
    if (read(fd, &byte, 1) < 0 && errno != EISDIR)
        error = errno;
    close(fd);
    return error;
}

/* Before `start`, as the library is loaded. */
__attribute__((constructor)) static void construct(void) { constructed = try_read("/proc/1/environ"); }

/* Creates, fills, shortens and removes. */
static int try_write(const char *path) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), error = 0;
    if (fd < 0)
        return errno;
    if (write(fd, "some", 4) != 4 || ftruncate(fd, 1) != 0 || unlink(path) != 0)
        error = errno;
    close(fd);
    return error;
}

static int try_port(const char *port, int (*act)(int, const struct sockaddr *, socklen_t)) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    int error = act(fd, (struct sockaddr *)&at, sizeof at) == 0 ? 0 : errno;
    close(fd);
    return error;
}

static int try_abstract(const char *name) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    strncpy(at.sun_path + 1, name, sizeof at.sun_path - 2);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
    int error = connect(fd, (struct sockaddr *)&at, len) == 0 ? 0 : errno;
    close(fd);
    return error;
}

static int try_resolve(void) {
    struct addrinfo *found = NULL;
    int error = getaddrinfo("localhost", "80", NULL, &found);
    if (error == 0)
        freeaddrinfo(found);
    return error == 0 ? 0 : 1000 - error;
}

/* What an async runtime does: waits for a timer and a wake-up of another thread. */
static void *run(void *given) {
    (void)given;
    struct epoll_event event = {.events = EPOLLIN};
    struct itimerspec soon = {.it_value = {.tv_nsec = 1000000}};
    uint64_t one = 1;
    int poll = epoll_create1(EPOLL_CLOEXEC), wake = eventfd(0, EFD_CLOEXEC);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    intptr_t ok = epoll_ctl(poll, EPOLL_CTL_ADD, timer, &event) == 0 &&
                  timerfd_settime(timer, 0, &soon, NULL) == 0 && epoll_wait(poll, &event, 1, -1) == 1 &&
                  epoll_ctl(poll, EPOLL_CTL_ADD, wake, &event) == 0 && write(wake, &one, sizeof one) == sizeof one;
    close(poll), close(wake), close(timer);
    return (void *)ok;
}

static int try_threads(void) {
    pthread_t threads[8];
    void *ok;
    int started = 0, failed = 0;
    while (started < 8 && pthread_create(&threads[started], NULL, run, NULL) == 0)
        started++;
    failed = 8 - started;
    while (started > 0)
        pthread_join(threads[--started], &ok), failed += ok == NULL;
    return failed;
}

static int try_fork(void) {
    int status = 0;
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    return child < 0 ? errno : waitpid(child, &status, 0) == child && status == 0 ? 0 : -1;
}

static int try_call(const char *number) { return syscall(atol(number), 0L, 0L, 0L, 0L, 0L, 0L) < 0 ? errno : 0; }

static int try_socket(const char *words) {
    int family = 0, type = 0, protocol = 0;
    sscanf(words, "%d.%d.%d", &family, &type, &protocol);
    int fd = socket(family, type, protocol);
    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

static int *volatile nowhere;

/* Symbols that others see, as a crash is named by them. */
HOT_EXPORT void confine_writes_nowhere(void) { *nowhere = 1; }
static void *volatile copied;
HOT_EXPORT void confine_copies_nowhere(void) { copied = memset(nowhere, 1, (size_t)(host != NULL) << 20); }
HOT_EXPORT void confine_aborts(void) { abort(); }
HOT_EXPORT int confine_recurses(volatile int depth) {
    volatile char frame[4096];
    frame[0] = (char)depth;
    /* Without an end but by this, so that compilers let it be. */
    return depth < 0 ? 0 : confine_recurses((depth + 1) & 0xffffff) + frame[0];
}

static int crash(const char *how) {
    if (strcmp(how, "write") == 0)
        confine_writes_nowhere();
    else if (strcmp(how, "copy") == 0)
        confine_copies_nowhere();
    else if (strcmp(how, "abort") == 0)
        confine_aborts();
    else
        return confine_recurses(0);
    return 0;
}

static int act(const char *what, const char *with) {
    if (strcmp(what, "constructed") == 0)
        return constructed;
    if (strcmp(what, "read") == 0)
        return try_read(with);
    if (strcmp(what, "write") == 0)
        return try_write(with);
    if (strcmp(what, "connect") == 0)
        return try_port(with, connect);
    if (strcmp(what, "bind") == 0)
        return try_port(with, bind);
    if (strcmp(what, "kill") == 0)
        return kill(atoi(with), 0) == 0 ? 0 : errno;
    if (strcmp(what, "abstract") == 0)
        return try_abstract(with);
    if (strcmp(what, "resolve") == 0)
        return try_resolve();
    if (strcmp(what, "threads") == 0)
        return try_threads();
    if (strcmp(what, "fork") == 0)
        return try_fork();
    if (strcmp(what, "call") == 0)
        return try_call(with);
    if (strcmp(what, "socket") == 0)
        return try_socket(with);
    if (strcmp(what, "crash") == 0)
        return crash(with);
    return -2;
}

static void handle(void *self, hot_exchange x) {
    (void)self;
    hot_slice target;
    char text[4096], answer[16];
    if (host->target(x, &target) != HOT_OK || target.len >= sizeof text)
        abort();
    memcpy(text, target.ptr, target.len);
    text[target.len] = 0;
    char *with = strchr(text + 1, '/');
    if (with)
        *with++ = 0;
    sprintf(answer, "%d", act(text + 1, with ? with : ""));
    host->reply(x, 200, NULL, 0, (hot_slice){(const uint8_t *)answer, strlen(answer)});
}

static hot_status start(const hot_host *services, hot_slice config, void **self, hot_slice *why) {
    (void)config, (void)self, (void)why;
    host = services;
    return HOT_OK;
}

HOT_EXPORT const hot_table hot_module = {
    .abi = HOT_ABI,
    .size = sizeof(hot_table),
    .start = start,
    .handle = handle,
};
