// Has a process see a clock that is wrong: what tells the time of day is so many seconds ahead of the machine's. Loaded into
// an unchanged program by LD_PRELOAD, as a network namespace has a clock of its own no more than any other.
//
//   HOT_CLOCK_AHEAD  the seconds; may be negative
//
// It sees what goes through libc, as all of Rust's standard library does. How long something takes is told by other clocks,
// which are as they were.
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t ahead;

__attribute__((constructor)) static void set_up(void) {
    const char *seconds = getenv("HOT_CLOCK_AHEAD");
    if (seconds) ahead = atol(seconds);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int failed = (int)syscall(SYS_clock_gettime, clock, time);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) time->tv_sec += ahead;
    return failed;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    (void)zone;
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *to) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    if (to) *to = now.tv_sec;
    return now.tv_sec;
}
