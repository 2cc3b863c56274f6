/* A host that does one bad thing, named in its artifact. Whatever it starts ends by itself after a while, so that a
 * hot-spawn that fails to end it costs a test and not a machine. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CONTROL = 3, ARTIFACT = 4, REPORT = 5, LIFE = 15, MOST = 3000 };

static void take(size_t mib) {
    /* Volatile, or a compiler sees that nobody reads it and writes nothing. */
    volatile char *memory = malloc(mib << 20);
    if (!memory) _exit(90);
    for (size_t at = 0; at < mib << 20; at += 4096) memory[at] = 1;
}

static void grow(void) {
    for (;;) {
        take(1);
        usleep(500);
    }
}

static void *grow_on(void *unused) {
    grow();
    return unused;
}

/* In a child of which the first thread ends, so that the kernel shows no memory of it. */
static void hidden(void) {
    if (fork() == 0) {
        pthread_t thread;
        alarm(LIFE);
        if (pthread_create(&thread, NULL, grow_on, NULL) != 0) _exit(91);
        syscall(SYS_exit, 0);
    }
    for (;;) pause();
}

/* Three processes, one of them in a session of its own; only together are they beyond the limit. */
static void family(size_t mib) {
    for (int member = 0; member < 3; member++) {
        if (fork() == 0) {
            alarm(LIFE);
            if (member == 0) setsid();
            take(mib);
            for (;;) pause();
        }
    }
    for (;;) pause();
}

/* Far beyond any limit it stops: the machine has other users. */
static void bomb(int leaves_session) {
    int *forks = mmap(0, sizeof *forks, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (forks == MAP_FAILED) _exit(89);
    while (__atomic_add_fetch(forks, 1, __ATOMIC_RELAXED) < MOST) {
        if (fork() == 0) {
            alarm(LIFE);
            if (leaves_session) setsid();
        }
    }
    for (;;) pause();
}

/* As many processes as it is told, which then stand there. */
static void crowd(long tasks) {
    while (--tasks > 0) {
        if (fork() == 0) {
            alarm(LIFE);
            for (;;) pause();
        }
    }
    for (;;) pause();
}

static int send_descriptor(int descriptor) {
    char packet = 1, space[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {&packet, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
    int failed = sendmsg(REPORT, &message, 0) != 1;
    close(descriptor);
    close(REPORT);
    return failed;
}

/* Has getppid refused from here on. */
static void confine(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    long listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    if (listener < 0 || send_descriptor(listener)) _exit(91);
}

static void call(long times) {
    while (times-- > 0) {
        errno = 0;
        if (syscall(SYS_getppid) != -1 || errno != EPERM) _exit(92);
    }
}

int main(void) {
    char text[64] = {0}, word[32] = {0};
    long number = 0;
    if (pread(ARTIFACT, text, sizeof text - 1, 0) < 0 || sscanf(text, "%31s %ld", word, &number) < 1) return 94;
    alarm(4 * LIFE);
    if (!strcmp(word, "grow")) grow();
    if (!strcmp(word, "hidden")) hidden();
    if (!strcmp(word, "family")) family(number);
    if (!strcmp(word, "bomb")) bomb(0);
    if (!strcmp(word, "setsid-bomb")) bomb(1);
    if (!strcmp(word, "crowd")) crowd(number);
    if (!strcmp(word, "flood")) {
        confine();
        for (int more = 0; more < 3; more++) {
            if (fork() == 0) break;
        }
        call(1L << 60);
    }
    if (!strcmp(word, "calls")) {
        /* For each packet that it hears it makes as many calls as that says, and says so; 0 ends it. */
        confine();
        for (;;) {
            char demand[32] = {0};
            if (read(CONTROL, demand, sizeof demand - 1) <= 0) return 95;
            long times = atol(demand);
            if (times == 0) return 0;
            call(times < 0 ? -times : times);
            if (times < 0) return 0;
            if (write(CONTROL, "done", 4) != 4) return 96;
        }
    }
    if (!strcmp(word, "wrong")) {
        int ends[2];
        if (pipe(ends) || send_descriptor(ends[0])) return 97;
        char end;
        return read(CONTROL, &end, 1) == 1 ? 0 : 98;
    }
    return 99;
}
