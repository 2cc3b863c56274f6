/*
 * Part of hot_testing.h, which includes it: what the host inside a test program knows, its one lock, and the rules that
 * hold whenever the lock is left. Not for tests.
 */
#ifndef HOT_TESTING_STATE_H
#define HOT_TESTING_STATE_H

#define HOT_T_WINDOW ((size_t)256 * 1024)
#define HOT_T_PIECE ((size_t)16 * 1024)
#define HOT_T_LARGEST ((size_t)64 * 1024 * 1024) /* an answer that nobody reads piece by piece ends here */
#define HOT_T_HEADERS 128u
#define HOT_T_HEAD ((size_t)64 * 1024)
#define HOT_T_SERIES 256u
#define HOT_T_LABELS 8u
#define HOT_T_EVENTS (HOT_READABLE | HOT_WRITABLE | HOT_ENDING)
#define HOT_T_PATIENCE 30u /* seconds for start, health, stop and what is left after a deadline */
#define HOT_T_GRACE 2000u  /* milliseconds for a module to end an exchange that it was told is cancelled */

typedef struct hot_t_bytes {
    char *at; /* with a NUL behind it */
    size_t len, room;
} hot_t_bytes;

typedef struct hot_t_fields {
    hot_header *at;
    size_t count;
} hot_t_fields;

/* Memory that was lent to the module for as long as the exchange lives. */
typedef struct hot_t_lent {
    struct hot_t_lent *next;
    size_t len;
    char *at;
} hot_t_lent;

typedef struct hot_t_notice {
    void (*wake)(void *);
    void *context;
} hot_t_notice;

enum hot_t_phase { HOT_T_WAITING, HOT_T_BODY, HOT_T_ENDED };

struct hot_test_exchange {
    hot_test_exchange *next;
    hot_exchange id;
    char name[64]; /* for messages */
    pthread_t thread;
    int has_thread, has_returned, is_closed, is_head;
    enum hot_t_phase phase;
    unsigned waiting; /* threads of the module that wait in a service */
    const char *ended_by;
    int is_cancelled, is_late, is_read; /* is_read: by hot_test_read, so the module may not run ahead */
    unsigned time_ms;
    struct timespec deadline;
    int is_still, has_moved; /* it waits for its client, who has moved since that was looked at */
    struct timespec still_since, still_until;
    int is_long, is_asked; /* a long stream has a deadline once it is asked to end: */
    struct timespec asked;
    int is_upgrade, is_upgraded; /* whether the request asks for the connection, and whether the module has it */
    /* The request. */
    hot_slice method, target, peer;
    hot_t_fields headers, request_trailers;
    hot_t_lent *lent;
    hot_t_bytes in;
    size_t in_taken, piece_size;
    int in_whole, in_seen_end;
    char *piece;
    size_t piece_len;
    /* The response. */
    hot_t_fields out_headers, out_trailers;
    int has_trailers;
    hot_t_bytes out;
    size_t out_taken, window;
    char *aborted;
    hot_t_notice notices[HOT_T_EVENTS + 1]; /* by the value of `events` */
    hot_test_response response;
};

typedef struct hot_t_metric {
    struct hot_t_metric *next;
    char *name, *labels;
    hot_test_series series;
} hot_t_metric;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int is_ready, is_old;
    const hot_table *table;
    void *self;
    int is_started;
    hot_slice config;
    const char *why;
    hot_t_lent *forever; /* what lives as long as the process */
    hot_slice health;    /* what the last `health` lent, and how it read then */
    char *health_copy;
    hot_test_exchange *exchanges;
    hot_exchange last;
    hot_t_bytes log;
    hot_t_metric *metrics;
    unsigned series;
    int checks, failures, breaches;
} hot_t = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, NULL, NULL, 0, {NULL, 0}, "", NULL, {NULL, 0},
           NULL, NULL, 0, {NULL, 0, 0}, NULL, 0, 0, 0, 0};

/* Whether this thread is in a wake. */
static __thread int hot_t_waking;

/* Bytes and fields. */

static inline void *hot_t_allocate(size_t size) {
    void *at = calloc(1, size > 0 ? size : 1);
    if (at == NULL) {
        fputs("hot_testing: out of memory\n", stderr);
        abort();
    }
    return at;
}

static inline void hot_t_append(hot_t_bytes *bytes, const void *more, size_t len) {
    if (bytes->len + len + 1 > bytes->room) {
        bytes->room = (bytes->len + len + 1) * 2;
        bytes->at = (char *)realloc(bytes->at, bytes->room);
        if (bytes->at == NULL)
            abort();
    }
    if (len > 0)
        memcpy(bytes->at + bytes->len, more, len);
    bytes->len += len;
    bytes->at[bytes->len] = '\0';
}

static inline char *hot_t_copy(const void *bytes, size_t len) {
    char *copy = (char *)hot_t_allocate(len + 1);
    if (len > 0)
        memcpy(copy, bytes, len);
    return copy;
}

/* What the module may not read any more: whoever does sees it. */
static inline void hot_t_spoil(char *at, size_t len) {
    if (at == NULL)
        return;
    memset(at, 0xdd, len);
    free(at);
}

static inline hot_slice hot_t_slice(const char *at, size_t len) {
    hot_slice slice;
    slice.ptr = (const uint8_t *)at;
    slice.len = len;
    return slice;
}

/* A copy that is kept in this list. */
static inline hot_slice hot_t_keep_in(hot_t_lent **list, const void *bytes, size_t len) {
    hot_t_lent *lent = (hot_t_lent *)hot_t_allocate(sizeof *lent);
    lent->at = hot_t_copy(bytes, len);
    lent->len = len;
    lent->next = *list;
    *list = lent;
    return hot_t_slice(lent->at, len);
}

/* Memory that the module may read until the exchange is over. */
static inline hot_slice hot_t_lend(hot_test_exchange *x, const void *bytes, size_t len) {
    return hot_t_keep_in(&x->lent, bytes, len);
}

static inline char hot_t_lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 'a' - 'A') : c; }

static inline int hot_t_same_name(hot_slice name, const char *other, size_t len) {
    size_t i;
    if (name.len != len)
        return 0;
    for (i = 0; i < len; i++)
        if (hot_t_lower((char)name.ptr[i]) != hot_t_lower(other[i]))
            return 0;
    return 1;
}

static inline const hot_header *hot_t_find(const hot_t_fields *fields, const char *name, size_t len) {
    size_t i;
    for (i = 0; i < fields->count; i++)
        if (hot_t_same_name(fields->at[i].name, name, len))
            return &fields->at[i];
    return NULL;
}

/* Lines "name: value\n" as headers that are lent, names in lower case. */
static inline hot_t_fields hot_t_parse(hot_test_exchange *x, const char *lines) {
    hot_t_fields fields = {NULL, 0};
    const char *line = lines == NULL ? "" : lines;
    while (*line != '\0') {
        const size_t len = strcspn(line, "\n"), name = strcspn(line, ":\n");
        size_t value = name < len ? name + 1 : len, i;
        hot_header *field;
        fields.at = (hot_header *)realloc(fields.at, (fields.count + 1) * sizeof *fields.at);
        if (fields.at == NULL)
            abort();
        field = &fields.at[fields.count++];
        while (value < len && line[value] == ' ')
            value++;
        field->name = hot_t_lend(x, line, name);
        for (i = 0; i < name; i++)
            x->lent->at[i] = hot_t_lower(x->lent->at[i]);
        field->value = hot_t_lend(x, line + value, len - value);
        line += len + (line[len] == '\n');
    }
    return fields;
}

/* Reports and locks. */

#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
static inline void hot_t_breach(const char *format, ...) {
    va_list arguments;
    hot_t.breaches++;
    fputs("hot_testing: the module broke the contract: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

static inline struct timespec hot_t_add(struct timespec at, uint64_t nanoseconds) {
    at.tv_sec += (time_t)(nanoseconds / 1000000000);
    at.tv_nsec += (long)(nanoseconds % 1000000000);
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec += 1;
        at.tv_nsec -= 1000000000;
    }
    return at;
}

static inline struct timespec hot_t_in(unsigned milliseconds) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return hot_t_add(now, (uint64_t)milliseconds * 1000000);
}

/* Nanoseconds from here to then; 0 when it has passed. */
static inline uint64_t hot_t_between(struct timespec here, struct timespec then) {
    const int64_t left = ((int64_t)then.tv_sec - here.tv_sec) * 1000000000 + then.tv_nsec - here.tv_nsec;
    return left > 0 ? (uint64_t)left : 0;
}
static inline uint64_t hot_t_left(struct timespec then) { return hot_t_between(hot_t_in(0), then); }

/* Waits for news until then: 0 when that has passed. */
static inline int hot_t_wait(struct timespec until) {
    if (hot_t_left(until) == 0)
        return 0;
    pthread_cond_timedwait(&hot_t.changed, &hot_t.lock, &until);
    return 1;
}

/* What the client has sent and the module has not read. Before a 101 it is not the request's body, which has ended. */
static inline int hot_t_is_early(const hot_test_exchange *x) { return x->is_upgrade && !x->is_upgraded; }
static inline size_t hot_t_unread(const hot_test_exchange *x) {
    return hot_t_is_early(x) ? 0 : x->in.len - x->in_taken;
}
static inline int hot_t_has_whole(const hot_test_exchange *x) { return x->in_whole || hot_t_is_early(x); }
static inline int hot_t_has_piece(const hot_test_exchange *x) { return hot_t_unread(x) > 0 || hot_t_has_whole(x); }

/* The clock is the module's: while the exchange waits for its client, for a body that has not come or until what was
   written is taken, the deadline moves along. A client that does not move is given up in the end. */
static inline void hot_t_tick(hot_test_exchange *x) {
    const struct timespec now = hot_t_in(0);
    const int stood_still = x->is_still, is_untaken = x->is_read && x->out_taken < x->out.len;
    if (stood_still)
        x->deadline = hot_t_add(x->deadline, hot_t_between(x->still_since, now));
    x->is_still = !x->is_long && x->phase != HOT_T_ENDED && (is_untaken || !hot_t_has_piece(x));
    x->still_since = now;
    if (!stood_still || x->has_moved)
        x->still_until = hot_t_add(now, (uint64_t)x->time_ms * 1000000);
    x->has_moved = 0;
}

/* Whether there is a deadline: only a long stream has none. */
static inline int hot_t_is_bounded(const hot_test_exchange *x) { return !x->is_long || x->is_asked; }

static inline struct timespec hot_t_end_of_time(const hot_test_exchange *x) {
    return x->is_still ? x->still_until : x->deadline;
}
static inline int hot_t_is_over_time(const hot_test_exchange *x) {
    return hot_t_is_bounded(x) && hot_t_left(hot_t_end_of_time(x)) == 0;
}

/* Waits for news until the deadline; without one until `patience`, what the client waits for one thing. */
static inline int hot_t_wait_for(hot_test_exchange *x, struct timespec patience) {
    hot_t_tick(x);
    return hot_t_wait(hot_t_is_bounded(x) ? hot_t_end_of_time(x) : patience);
}

static inline void hot_t_setup(void) {
    pthread_condattr_t clock;
    if (hot_t.is_ready)
        return;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&hot_t.changed, &clock);
    pthread_condattr_destroy(&clock);
    hot_t.is_ready = 1;
}

static inline size_t hot_t_room(const hot_test_exchange *x) {
    const size_t ahead = x->out.len - x->out_taken;
    if (x->is_read)
        return x->window > ahead ? x->window - ahead : 0;
    return HOT_T_LARGEST - (x->out.len < HOT_T_LARGEST ? x->out.len : HOT_T_LARGEST);
}

static inline int hot_t_is_due(const hot_test_exchange *x, uint32_t events) {
    if (x->phase == HOT_T_ENDED || x->is_cancelled || hot_t_is_over_time(x))
        return 1;
    return ((events & HOT_READABLE) != 0 && hot_t_has_piece(x)) ||
           ((events & HOT_WRITABLE) != 0 && (x->phase == HOT_T_WAITING || hot_t_room(x) > 0)) ||
           ((events & HOT_ENDING) != 0 && x->is_long && x->is_asked);
}

/* Leaves the lock, tells all who wait, and runs the wakes that are due: never under the lock. */
static inline void hot_t_leave(void) {
    for (;;) {
        hot_test_exchange *x;
        hot_t_notice due = {NULL, NULL};
        for (x = hot_t.exchanges; x != NULL && due.wake == NULL; x = x->next) {
            uint32_t events;
            hot_t_tick(x);
            for (events = 0; events <= HOT_T_EVENTS && due.wake == NULL; events++) {
                if (x->notices[events].wake != NULL && hot_t_is_due(x, events)) {
                    due = x->notices[events];
                    x->notices[events].wake = NULL;
                }
            }
        }
        pthread_cond_broadcast(&hot_t.changed);
        pthread_mutex_unlock(&hot_t.lock);
        if (due.wake == NULL)
            return;
        hot_t_waking++;
        due.wake(due.context);
        hot_t_waking--;
        pthread_mutex_lock(&hot_t.lock);
    }
}

static inline void hot_t_enter(const char *service) {
    pthread_mutex_lock(&hot_t.lock);
    if (hot_t_waking > 0)
        hot_t_breach("`%s` was called within a wake, which may call no service", service);
}

/* What was lent is gone once the exchange has ended and its handle has returned. */
static inline void hot_t_take_back(hot_test_exchange *x) {
    if (x->phase != HOT_T_ENDED || !x->has_returned)
        return;
    while (x->lent != NULL) {
        hot_t_lent *lent = x->lent;
        x->lent = lent->next;
        hot_t_spoil(lent->at, lent->len);
        free(lent);
    }
    hot_t_spoil((char *)x->headers.at, x->headers.count * sizeof(hot_header));
    hot_t_spoil((char *)x->request_trailers.at, x->request_trailers.count * sizeof(hot_header));
    hot_t_spoil(x->piece, x->piece_len);
    x->headers.at = x->request_trailers.at = NULL;
    x->piece = NULL;
}

static inline void hot_t_end(hot_test_exchange *x, const char *by) {
    const hot_header *promise = hot_t_find(&x->out_headers, "content-length", 14);
    x->phase = HOT_T_ENDED;
    x->ended_by = by;
    if (promise != NULL && x->response.complete && !x->is_head &&
        strtoull((const char *)promise->value.ptr, NULL, 10) != x->out.len)
        hot_t_breach("%s: content-length says %s and the body has %zu bytes", x->name, (const char *)promise->value.ptr,
                     x->out.len);
    hot_t_take_back(x);
}

#endif
