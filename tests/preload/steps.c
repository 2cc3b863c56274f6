// Counts the steps that a process takes on a folder, and does harm at one of them. Loaded into an unchanged program by
// LD_PRELOAD: the program has no failpoints of its own. (strace's injection counts for each thread by itself, so that
// "the n-th step" of a program with threads can't be said to it.)
//
//   HOT_STEPS_FOLDER  steps on paths below it count
//   HOT_STEPS_LOG     gets a line for each: "NUMBER CALL PATH", and "HARM" behind that at which harm was done
//   HOT_STEPS_AT      the number, from 1, of the step at which harm is done; that step is not taken
//   HOT_STEPS_HARM    "kill": the process ends as by kill -9; else the errno that the call fails with, once
//   HOT_STEPS_CALL    only this call counts for HOT_STEPS_AT; unset: every one
//   HOT_STEPS_BROKEN  a file with lines of the form "CALL PATH": such steps fail with EIO for as long as it says so
//
// It sees what goes through libc, as all of Rust's standard library and sled does. A program that is linked with it
// statically, or calls the kernel directly, is not seen: the tests look whether the log has what they expect.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static char folder[PATH_MAX];
static size_t folder_length;
static int log_fd = -1;
static long harm_at = -1;
static int harm_errno; // 0: kill
static char only[32];
static char broken[PATH_MAX];
static atomic_long steps, counted;

__attribute__((constructor)) static void set_up(void) {
    const char *below = getenv("HOT_STEPS_FOLDER"), *log = getenv("HOT_STEPS_LOG");
    const char *at = getenv("HOT_STEPS_AT"), *harm = getenv("HOT_STEPS_HARM"), *call = getenv("HOT_STEPS_CALL");
    if (!below || !log) return;
    log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    folder_length = strlen(below);
    if (log_fd < 0 || folder_length >= sizeof folder) abort();
    memcpy(folder, below, folder_length + 1);
    if (at) harm_at = atol(at);
    if (harm && strcmp(harm, "kill") != 0) harm_errno = atoi(harm);
    if (call) snprintf(only, sizeof only, "%s", call);
    const char *broken_now = getenv("HOT_STEPS_BROKEN");
    if (broken_now) snprintf(broken, sizeof broken, "%s", broken_now);
}

// Whether such steps fail now, whichever they are.
static int is_broken(const char *call, const char *within) {
    char text[4096] = "\n", line[PATH_MAX + 64];
    int fd = *broken ? (int)syscall(SYS_openat, AT_FDCWD, broken, O_RDONLY | O_CLOEXEC, 0) : -1;
    if (fd < 0) return 0;
    ssize_t length = syscall(SYS_read, fd, text + 1, sizeof text - 2);
    syscall(SYS_close, fd);
    snprintf(line, sizeof line, "\n%s %s\n", call, within);
    return length > 0 && strstr(text, line) != NULL;
}

// Takes note of a step; nonzero: it is to fail with errno.
static int step(const char *call, const char *path) {
    if (log_fd < 0 || strncmp(path, folder, folder_length) != 0) return 0;
    const char *within = path + folder_length;
    if (*within == '/') within++;
    else if (*within) return 0;
    if (!*within) within = ".";
    char line[PATH_MAX + 64];
    int length = snprintf(line, sizeof line, "%ld %s %s\n", atomic_fetch_add(&steps, 1) + 1, call, within);
    if (syscall(SYS_write, log_fd, line, length) != length) abort();
    if (is_broken(call, within)) {
        errno = EIO;
        return 1;
    }
    if (*only && strcmp(only, call) != 0) return 0;
    if (atomic_fetch_add(&counted, 1) + 1 != harm_at) return 0;
    if (syscall(SYS_write, log_fd, "HARM\n", 5) != 5) abort();
    if (!harm_errno) {
        syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
        for (;;) pause();
    }
    errno = harm_errno;
    return 1;
}

static int step_fd(const char *call, int fd) {
    if (log_fd < 0) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int before = errno;
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length < 0) return 0;
    path[length] = 0;
    return step(call, path);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static mode_t mode_of(int flags, va_list rest) { return flags & O_CREAT ? va_arg(rest, mode_t) : 0; }

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    if ((flags & O_CREAT) && step("create", path)) return -1;
    return NEXT(open64)(path, flags, mode);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    if (step_fd("write", fd)) return -1;
    return NEXT(write)(fd, bytes, length);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    if (step_fd("write", fd)) {
        // As on a disk that fills up: half of it is there.
        int why = errno;
        if (why == ENOSPC) (void)!NEXT(pwrite64)(fd, bytes, length / 2, at);
        errno = why;
        return -1;
    }
    return NEXT(pwrite64)(fd, bytes, length, at);
}

int ftruncate64(int fd, off64_t length) {
    if (step_fd("truncate", fd)) return -1;
    return NEXT(ftruncate64)(fd, length);
}

int fsync(int fd) {
    if (step_fd("fsync", fd)) return -1;
    return NEXT(fsync)(fd);
}

int fdatasync(int fd) {
    if (step_fd("fsync", fd)) return -1;
    return NEXT(fdatasync)(fd);
}

int rename(const char *from, const char *to) {
    if (step("rename", to)) return -1;
    return NEXT(rename)(from, to);
}

int unlink(const char *path) {
    if (step("remove", path)) return -1;
    return NEXT(unlink)(path);
}
