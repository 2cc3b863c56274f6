/*
 * Part of hot_testing.h, which includes it: the services of the host inside a test program. Each looks for faults in
 * the contract's order: the handle, arguments, a cancellation, the order of calls. Not for tests.
 */
#ifndef HOT_TESTING_SERVICES_H
#define HOT_TESTING_SERVICES_H

#include "hot_testing_state.h"

#define HOT_T_BAD_HEAD                                                                                                 \
    "a status outside 200 to 599 (101 is for `respond` to a request with `upgrade`), a header that HTTP does not "     \
    "allow, or null"

/* Enters a service of an exchange; NULL if there is none that is open. */
static inline hot_test_exchange *hot_t_open(hot_exchange id, const char *service) {
    hot_test_exchange *x;
    hot_t_enter(service);
    for (x = hot_t.exchanges; x != NULL && x->id != id; x = x->next) {}
    if (x == NULL || x->phase == HOT_T_ENDED) {
        if (x == NULL)
            hot_t_breach("`%s` of exchange %llu, which there is not", service, (unsigned long long)id);
        else if (!x->is_cancelled) /* else the module may not have heard yet that it has ended */
            hot_t_breach("%s: `%s` after `%s` had ended it", x->name, service, x->ended_by);
        return NULL;
    }
    hot_t_tick(x);
    if (!x->is_cancelled && hot_t_is_over_time(x))
        x->is_cancelled = x->is_late = 1;
    return x;
}

/* Leaves with a status; one that only a mistake in the module explains is reported. */
static inline hot_status hot_t_answer(const hot_test_exchange *x, const char *service, hot_status status,
                                      const char *why) {
    if (x != NULL && (status == HOT_STATE || status == HOT_INVALID))
        hot_t_breach("%s: `%s` was refused: %s", x->name, service, why);
    hot_t_leave();
    return x == NULL ? HOT_ENDED : status;
}

static inline hot_status hot_t_text(hot_exchange id, const char *service, hot_slice *out, int which) {
    hot_test_exchange *x = hot_t_open(id, service);
    if (x == NULL || out == NULL)
        return hot_t_answer(x, service, HOT_INVALID, "`out` is null");
    *out = which == 0 ? x->method : which == 1 ? x->target : x->peer;
    return hot_t_answer(x, service, HOT_OK, "");
}
static inline hot_status hot_t_method(hot_exchange id, hot_slice *out) { return hot_t_text(id, "method", out, 0); }
static inline hot_status hot_t_target(hot_exchange id, hot_slice *out) { return hot_t_text(id, "target", out, 1); }
static inline hot_status hot_t_peer(hot_exchange id, hot_slice *out) { return hot_t_text(id, "peer", out, 2); }

static inline hot_status hot_t_headers(hot_exchange id, const hot_header **out, size_t *count) {
    hot_test_exchange *x = hot_t_open(id, "headers");
    if (x == NULL || out == NULL || count == NULL)
        return hot_t_answer(x, "headers", HOT_INVALID, "`out` or `count` is null");
    *out = x->headers.at;
    *count = x->headers.count;
    return hot_t_answer(x, "headers", HOT_OK, "");
}

static inline int hot_t_is_slice(hot_slice slice) {
    return slice.len == 0 || (slice.ptr != NULL && slice.len <= SIZE_MAX / 2);
}

static inline hot_status hot_t_header(hot_exchange id, hot_slice name, hot_slice *out) {
    hot_test_exchange *x = hot_t_open(id, "header");
    const hot_header *found;
    if (x == NULL || out == NULL || !hot_t_is_slice(name))
        return hot_t_answer(x, "header", HOT_INVALID, "`name` or `out` is null");
    found = hot_t_find(&x->headers, (const char *)name.ptr, name.len);
    if (found != NULL)
        *out = found->value;
    return hot_t_answer(x, "header", found != NULL ? HOT_OK : HOT_NOT_FOUND, "");
}

static inline hot_status hot_t_time_left(hot_exchange id, uint64_t *out) {
    hot_test_exchange *x = hot_t_open(id, "time_left");
    if (x == NULL || out == NULL)
        return hot_t_answer(x, "time_left", HOT_INVALID, "`nanoseconds` is null");
    *out = !hot_t_is_bounded(x) ? UINT64_MAX
           : x->is_still        ? hot_t_between(x->still_since, x->deadline)
                                : hot_t_left(x->deadline);
    return hot_t_answer(x, "time_left", HOT_OK, "");
}

/* Waits until `done(x)`: HOT_OK, or why that will not be. */
static inline hot_status hot_t_until(hot_test_exchange *x, int (*done)(const hot_test_exchange *)) {
    x->waiting++;
    while (x->phase != HOT_T_ENDED && !x->is_cancelled && !done(x))
        if (hot_t_is_over_time(x))
            x->is_cancelled = x->is_late = 1;
        else
            hot_t_wait_for(x, hot_t_in(HOT_T_GRACE)); /* a long stream waits without end: once more, then */
    x->waiting--;
    return x->phase == HOT_T_ENDED ? HOT_ENDED : x->is_cancelled ? HOT_CANCELLED : HOT_OK;
}
static inline int hot_t_has_room(const hot_test_exchange *x) { return hot_t_room(x) > 0; }

static inline hot_status hot_t_body_read(hot_exchange id, uint32_t flags, hot_slice *out) {
    hot_test_exchange *x = hot_t_open(id, "body_read");
    hot_status status;
    size_t len;
    if (x == NULL || out == NULL || (flags & ~HOT_NONBLOCK) != 0)
        return hot_t_answer(x, "body_read", HOT_INVALID, "`out` is null, or a flag is unknown");
    if ((flags & HOT_NONBLOCK) != 0 && !x->is_cancelled && !hot_t_has_piece(x))
        return hot_t_answer(x, "body_read", HOT_WOULD_BLOCK, "");
    status = hot_t_until(x, hot_t_has_piece);
    if (status != HOT_OK)
        return hot_t_answer(x, "body_read", status, "");
    hot_t_spoil(x->piece, x->piece_len);
    len = hot_t_unread(x);
    len = len < x->piece_size ? len : x->piece_size;
    x->piece = hot_t_copy(len > 0 ? x->in.at + x->in_taken : "", len);
    x->piece_len = len;
    x->in_taken += len;
    x->in_seen_end |= len == 0;
    *out = hot_t_slice(x->piece, len);
    return hot_t_answer(x, "body_read", HOT_OK, "");
}

static inline hot_status hot_t_body_all(hot_exchange id, size_t limit, hot_slice *out) {
    hot_test_exchange *x = hot_t_open(id, "body_all");
    hot_status status;
    size_t len;
    if (x == NULL || out == NULL)
        return hot_t_answer(x, "body_all", HOT_INVALID, "`out` is null");
    status = hot_t_until(x, hot_t_has_whole);
    len = hot_t_unread(x);
    if (status == HOT_OK && len > limit)
        status = HOT_TOO_LARGE;
    if (status != HOT_OK)
        return hot_t_answer(x, "body_all", status, "");
    hot_t_spoil(x->piece, x->piece_len);
    x->piece = NULL;
    *out = hot_t_lend(x, len == 0 ? "" : x->in.at + x->in_taken, len);
    x->in_taken += len;
    x->in_seen_end = 1;
    return hot_t_answer(x, "body_all", HOT_OK, "");
}

static inline hot_status hot_t_request_trailers(hot_exchange id, const hot_header **out, size_t *count) {
    hot_test_exchange *x = hot_t_open(id, "request_trailers");
    if (x == NULL || out == NULL || count == NULL)
        return hot_t_answer(x, "request_trailers", HOT_INVALID, "`out` or `count` is null");
    if (x->is_cancelled || !x->in_seen_end || x->is_upgraded)
        return hot_t_answer(x, "request_trailers", x->is_cancelled ? HOT_CANCELLED : HOT_STATE,
                            "trailers come after the end of the body was read, and none after a 101");
    *out = x->request_trailers.at;
    *count = x->request_trailers.count;
    return hot_t_answer(x, "request_trailers", HOT_OK, "");
}

static inline int hot_t_is_token(hot_slice name) {
    size_t i;
    for (i = 0; i < name.len; i++) {
        const char c = hot_t_lower((char)name.ptr[i]);
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL)))
            return 0;
    }
    return name.len > 0;
}

/* With a 101 the module may choose the protocol, and there is no body whose length it could promise. */
static inline int hot_t_is_allowed(const hot_header *field, int is_101) {
    static const char *const hop[] = {"connection", "keep-alive", "proxy-connection",
                                      "te",         "transfer-encoding", "upgrade"};
    size_t i;
    if (!hot_t_is_slice(field->name) || !hot_t_is_slice(field->value) || !hot_t_is_token(field->name))
        return 0;
    for (i = 0; i < sizeof hop / sizeof *hop; i++)
        if (hot_t_same_name(field->name, hop[i], strlen(hop[i])) && !(is_101 && strcmp(hop[i], "upgrade") == 0))
            return 0;
    if (is_101 && hot_t_same_name(field->name, "content-length", 14))
        return 0;
    for (i = 0; i < field->value.len; i++)
        if ((field->value.ptr[i] < ' ' && field->value.ptr[i] != '\t') || field->value.ptr[i] == 0x7f)
            return 0;
    return 1;
}

static inline int hot_t_is_array(const hot_header *fields) {
    return fields != NULL && (uintptr_t)fields % sizeof(void *) == 0;
}

/* Whether the module may send these, and if not why: HOT_OK, HOT_INVALID or HOT_TOO_LARGE. */
static inline hot_status hot_t_check_fields(const hot_header *fields, size_t count, int is_101) {
    size_t i, size = 8; /* what the head itself costs */
    if (count > HOT_T_HEADERS)
        return HOT_TOO_LARGE;
    if (count > 0 && !hot_t_is_array(fields))
        return HOT_INVALID;
    for (i = 0; i < count; i++) {
        if (!hot_t_is_allowed(&fields[i], is_101))
            return HOT_INVALID;
        size += 4 + fields[i].name.len + fields[i].value.len;
    }
    return size > HOT_T_HEAD ? HOT_TOO_LARGE : HOT_OK;
}

static inline hot_t_fields hot_t_keep(const hot_header *fields, size_t count) {
    hot_t_fields kept;
    size_t i;
    kept.at = (hot_header *)hot_t_allocate(count * sizeof *kept.at);
    kept.count = count;
    for (i = 0; i < count; i++) {
        kept.at[i].name = hot_t_slice(hot_t_copy(fields[i].name.ptr, fields[i].name.len), fields[i].name.len);
        kept.at[i].value = hot_t_slice(hot_t_copy(fields[i].value.ptr, fields[i].value.len), fields[i].value.len);
    }
    return kept;
}

static inline void hot_t_forget(hot_t_fields *fields) {
    size_t i;
    for (i = 0; i < fields->count; i++) {
        free((void *)(uintptr_t)fields->at[i].name.ptr);
        free((void *)(uintptr_t)fields->at[i].value.ptr);
    }
    free(fields->at);
    fields->at = NULL;
    fields->count = 0;
}

/* After a call that ends an exchange: one that is cancelled has ended by it too. */
static inline hot_status hot_t_conclude(hot_test_exchange *x, const char *service, hot_status status) {
    if (status == HOT_OK)
        x->response.complete = 1;
    if (status == HOT_OK || status == HOT_CANCELLED)
        hot_t_end(x, service);
    return hot_t_answer(x, service, status, "the head comes first, and once");
}

static inline int hot_t_is_event_stream(const hot_t_fields *headers) {
    static const char kind[] = "text/event-stream";
    const hot_header *field = hot_t_find(headers, "content-type", 12);
    hot_slice value = field == NULL ? hot_t_slice(NULL, 0) : field->value;
    const uint8_t *end = value.len == 0 ? NULL : (const uint8_t *)memchr(value.ptr, ';', value.len);
    value.len = end == NULL ? value.len : (size_t)(end - value.ptr);
    while (value.len > 0 && (value.ptr[value.len - 1] == ' ' || value.ptr[value.len - 1] == '\t'))
        value.len--;
    while (value.len > 0 && (*value.ptr == ' ' || *value.ptr == '\t'))
        value.ptr++, value.len--;
    return hot_t_same_name(value, kind, sizeof kind - 1);
}

static inline hot_status hot_t_begin(hot_test_exchange *x, uint32_t status, const hot_header *fields, size_t count) {
    hot_header all[HOT_T_HEADERS + 1];
    if (x->phase != HOT_T_WAITING)
        return HOT_STATE;
    x->phase = HOT_T_BODY;
    x->response.status = status;
    x->out_headers = hot_t_keep(fields, count);
    x->is_upgraded = status == 101;
    if (x->is_upgraded && hot_t_find(&x->out_headers, "upgrade", 7) == NULL) {
        /* The gateway says it to the client: what was asked for. */
        hot_t_forget(&x->out_headers);
        if (count > 0)
            memcpy(all, fields, count * sizeof *all);
        all[count] = *hot_t_find(&x->headers, "upgrade", 7);
        x->out_headers = hot_t_keep(all, count + 1);
    }
    x->is_long = x->is_upgraded || hot_t_is_event_stream(&x->out_headers);
    x->is_still &= !x->is_long;
    if (x->is_long && x->is_asked)
        x->deadline = x->asked;
    return HOT_OK;
}

static inline hot_status hot_t_put(hot_test_exchange *x, hot_slice body) {
    while (body.len > 0) {
        const hot_status status = hot_t_until(x, hot_t_has_room);
        const size_t room = hot_t_room(x), len = body.len < room ? body.len : room;
        if (status != HOT_OK)
            return status;
        hot_t_append(&x->out, body.ptr, len);
        body.ptr += len;
        body.len -= len;
        pthread_cond_broadcast(&hot_t.changed);
    }
    return HOT_OK;
}

static inline hot_status hot_t_check_head(uint32_t status, const hot_header *fields, size_t count, int may_upgrade) {
    const int is_101 = may_upgrade && status == 101;
    return !is_101 && (status < 200 || status > 599) ? HOT_INVALID : hot_t_check_fields(fields, count, is_101);
}

static inline hot_status hot_t_reply(hot_exchange id, uint32_t code, const hot_header *fields, size_t count,
                                     hot_slice body) {
    hot_test_exchange *x = hot_t_open(id, "reply");
    hot_status status;
    if (x == NULL)
        return hot_t_answer(x, "reply", HOT_ENDED, "");
    status = hot_t_check_head(code, fields, count, 0);
    if (status == HOT_OK && !hot_t_is_slice(body))
        status = HOT_INVALID;
    if (status != HOT_OK)
        return hot_t_answer(x, "reply", status, HOT_T_BAD_HEAD);
    status = x->is_cancelled ? HOT_CANCELLED : hot_t_begin(x, code, fields, count);
    return hot_t_conclude(x, "reply", status == HOT_OK ? hot_t_put(x, body) : status);
}

static inline hot_status hot_t_respond(hot_exchange id, uint32_t code, const hot_header *fields, size_t count) {
    hot_test_exchange *x = hot_t_open(id, "respond");
    hot_status status;
    if (x == NULL)
        return hot_t_answer(x, "respond", HOT_ENDED, "");
    status = hot_t_check_head(code, fields, count, x->is_upgrade);
    if (status != HOT_OK)
        return hot_t_answer(x, "respond", status, HOT_T_BAD_HEAD);
    status = x->is_cancelled ? HOT_CANCELLED : hot_t_begin(x, code, fields, count);
    return hot_t_answer(x, "respond", status, "the head is sent once");
}

static inline hot_status hot_t_body_write(hot_exchange id, uint32_t flags, hot_slice body, size_t *written) {
    hot_test_exchange *x = hot_t_open(id, "body_write");
    const int must_not_wait = (flags & HOT_NONBLOCK) != 0;
    hot_status status;
    if (x == NULL || !hot_t_is_slice(body) || (flags & ~HOT_NONBLOCK) != 0 || (must_not_wait && written == NULL))
        return hot_t_answer(x, "body_write", HOT_INVALID, "null, or a flag is unknown");
    if (x->is_cancelled || x->phase != HOT_T_BODY)
        return hot_t_answer(x, "body_write", x->is_cancelled ? HOT_CANCELLED : HOT_STATE, "the head comes first");
    if (must_not_wait && body.len > 0) {
        const size_t room = hot_t_room(x);
        if (room == 0)
            return hot_t_answer(x, "body_write", HOT_WOULD_BLOCK, "");
        body.len = body.len < room ? body.len : room;
    }
    status = hot_t_put(x, body);
    if (status == HOT_OK && written != NULL)
        *written = body.len;
    return hot_t_answer(x, "body_write", status, "");
}

static inline hot_status hot_t_trailers(hot_exchange id, const hot_header *fields, size_t count) {
    hot_test_exchange *x = hot_t_open(id, "trailers");
    hot_status status;
    if (x == NULL)
        return hot_t_answer(x, "trailers", HOT_ENDED, "");
    status = hot_t_check_fields(fields, count, 0);
    if (status != HOT_OK)
        return hot_t_answer(x, "trailers", status, "a trailer that HTTP does not allow");
    if (x->is_cancelled || x->phase != HOT_T_BODY || x->has_trailers || x->is_upgraded)
        return hot_t_answer(x, "trailers", x->is_cancelled ? HOT_CANCELLED : HOT_STATE,
                            "once, after the head, and none after a 101");
    x->has_trailers = 1;
    x->out_trailers = hot_t_keep(fields, count);
    return hot_t_answer(x, "trailers", HOT_OK, "");
}

static inline hot_status hot_t_finish(hot_exchange id) {
    hot_test_exchange *x = hot_t_open(id, "finish");
    if (x == NULL)
        return hot_t_answer(x, "finish", HOT_ENDED, "");
    return hot_t_conclude(x, "finish", x->is_cancelled ? HOT_CANCELLED : x->phase == HOT_T_BODY ? HOT_OK : HOT_STATE);
}

static inline hot_status hot_t_abort(hot_exchange id, hot_slice why) {
    hot_test_exchange *x = hot_t_open(id, "abort");
    if (x == NULL)
        return hot_t_answer(x, "abort", HOT_ENDED, "");
    x->aborted = hot_t_copy(why.ptr, hot_t_is_slice(why) ? why.len : 0);
    if (x->phase == HOT_T_WAITING && !x->is_cancelled)
        x->response.status = 500;
    hot_t_end(x, "abort");
    return hot_t_answer(x, "abort", HOT_OK, "");
}

static inline hot_status hot_t_notify(hot_exchange id, uint32_t events, void (*wake)(void *), void *context) {
    hot_test_exchange *x = hot_t_open(id, "notify");
    hot_t_notice before;
    if (x == NULL || wake == NULL || events > HOT_T_EVENTS)
        return hot_t_answer(x, "notify", HOT_INVALID, "`wake` is null, or an event is unknown");
    if (x->is_cancelled)
        return hot_t_answer(x, "notify", HOT_CANCELLED, "");
    before = x->notices[events];
    x->notices[events].wake = wake;
    x->notices[events].context = context;
    hot_t_leave();
    if (before.wake != NULL) { /* its place is taken */
        hot_t_waking++;
        before.wake(before.context);
        hot_t_waking--;
    }
    return HOT_OK;
}

static inline void hot_t_log(uint32_t level, hot_slice text) {
    static const char *const names[] = {"info: ", "error: ", "warn: ", "info: ", "debug: "};
    hot_t_enter("log");
    if (level < HOT_LOG_ERROR || level > HOT_LOG_DEBUG || !hot_t_is_slice(text))
        hot_t_breach("`log` with level %u or a null text", (unsigned)level);
    else if (hot_t.log.len < HOT_T_LARGEST) {
        const char *name = names[level];
        hot_t_append(&hot_t.log, name, strlen(name));
        hot_t_append(&hot_t.log, text.ptr, text.len < 3800 ? text.len : 3800);
        hot_t_append(&hot_t.log, "\n", 1);
    }
    hot_t_leave();
}

static inline uint64_t hot_t_now(void) {
    struct timespec now;
    hot_t_enter("now");
    hot_t_leave();
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline hot_slice hot_t_config(void) {
    hot_slice config;
    hot_t_enter("config");
    config = hot_t.config;
    hot_t_leave();
    return config;
}

static inline int hot_t_is_word(hot_slice word, int may_have_colon) {
    size_t i;
    if (word.len == 0 || word.len > 63 || word.ptr == NULL)
        return 0;
    for (i = 0; i < word.len; i++) {
        const char c = hot_t_lower((char)word.ptr[i]);
        if (!((c >= 'a' && c <= 'z') || c == '_' || (c == ':' && may_have_colon) || (i > 0 && c >= '0' && c <= '9')))
            return 0;
    }
    return 1;
}

static inline int hot_t_by_name(const void *left, const void *right) {
    const hot_slice a = ((const hot_header *)left)->name, b = ((const hot_header *)right)->name;
    const int order = memcmp(a.ptr, b.ptr, a.len < b.len ? a.len : b.len);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* How many bytes the character in UTF-8 at `at` has; 0 if it is none, or a control character. */
static inline size_t hot_t_character(const uint8_t *at, size_t len) {
    const size_t size = at[0] < 0x80 ? 1 : (at[0] & 0xe0) == 0xc0 ? 2 : (at[0] & 0xf0) == 0xe0 ? 3 : 4;
    uint32_t code = size == 1 ? at[0] : at[0] & (0x7fu >> size);
    size_t i;
    if (size > len || (size == 4 && (at[0] & 0xf8) != 0xf0))
        return 0;
    for (i = 1; i < size; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (at[i] & 0x3fu);
    }
    /* Shorter forms, surrogates and what is beyond Unicode are no characters either. */
    if (code < 0x20 || (code >= 0x7f && code < 0xa0) || (size == 3 && code < 0x800) || (size == 4 && code < 0x10000) ||
        (size == 2 && code < 0x80) || (code >= 0xd800 && code < 0xe000) || code > 0x10ffff)
        return 0;
    return size;
}

static inline int hot_t_is_label_value(hot_slice value) {
    size_t at = 0, size = 1;
    if (!hot_t_is_slice(value) || value.len > 128)
        return 0;
    for (; at < value.len && size > 0; at += size)
        size = hot_t_character(value.ptr + at, value.len - at);
    return size > 0;
}

/* "name=value,..." in the order of the names; NULL if a label is not allowed. */
static inline char *hot_t_labels(const hot_header *labels, size_t count) {
    static const char *const taken[] = {"le", "module", "release", "version", "instance"};
    hot_header sorted[HOT_T_LABELS];
    hot_t_bytes text = {NULL, 0, 0};
    size_t i, k;
    if (count > HOT_T_LABELS || (count > 0 && !hot_t_is_array(labels)))
        return NULL;
    for (i = 0; i < count; i++) {
        sorted[i] = labels[i];
        if (!hot_t_is_word(labels[i].name, 0) || !hot_t_is_label_value(labels[i].value) ||
            (labels[i].name.len > 1 && memcmp(labels[i].name.ptr, "__", 2) == 0))
            return NULL;
        for (k = 0; k < sizeof taken / sizeof *taken; k++)
            if (labels[i].name.len == strlen(taken[k]) && memcmp(labels[i].name.ptr, taken[k], labels[i].name.len) == 0)
                return NULL;
    }
    qsort(sorted, count, sizeof *sorted, hot_t_by_name);
    hot_t_append(&text, "", 0);
    for (i = 0; i < count; i++) {
        if (i > 0 && hot_t_by_name(&sorted[i - 1], &sorted[i]) == 0) {
            free(text.at);
            return NULL;
        }
        hot_t_append(&text, ",", i > 0);
        hot_t_append(&text, sorted[i].name.ptr, sorted[i].name.len);
        hot_t_append(&text, "=", 1);
        hot_t_append(&text, sorted[i].value.ptr, sorted[i].value.len);
    }
    return text.at;
}

static inline hot_t_metric *hot_t_find_metric(const char *name, const char *labels) {
    hot_t_metric *metric = hot_t.metrics;
    while (metric != NULL &&
           (strcmp(metric->name, name) != 0 || (labels != NULL && strcmp(metric->labels, labels) != 0)))
        metric = metric->next;
    return metric;
}

/* A histogram is shown as three metrics, whose names are taken. */
static inline int hot_t_is_part(const char *name, const char *histogram) {
    const size_t length = strlen(histogram);
    const char *part = name + length;
    return strncmp(name, histogram, length) == 0 &&
           (strcmp(part, "_bucket") == 0 || strcmp(part, "_sum") == 0 || strcmp(part, "_count") == 0);
}

/* Whether a metric may have this name and kind beside the others. */
static inline int hot_t_admits(uint32_t kind, const char *name) {
    const hot_t_metric *metric;
    for (metric = hot_t.metrics; metric != NULL; metric = metric->next) {
        const uint32_t other = metric->series.kind;
        if (strcmp(metric->name, name) == 0 ? other != kind
                                            : (other == HOT_HISTOGRAM && hot_t_is_part(name, metric->name)) ||
                                                  (kind == HOT_HISTOGRAM && hot_t_is_part(metric->name, name)))
            return 0;
    }
    return 1;
}

static inline hot_status hot_t_count(uint32_t kind, const char *name, char *labels, double value) {
    hot_t_metric *metric;
    if (!hot_t_admits(kind, name))
        return HOT_INVALID;
    metric = hot_t_find_metric(name, labels);
    if (metric == NULL) {
        if (hot_t.series == HOT_T_SERIES)
            return HOT_TOO_LARGE;
        hot_t.series++;
        metric = (hot_t_metric *)hot_t_allocate(sizeof *metric);
        metric->name = hot_t_copy(name, strlen(name));
        metric->labels = hot_t_copy(labels, strlen(labels));
        metric->series.kind = kind;
        metric->next = hot_t.metrics;
        hot_t.metrics = metric;
    }
    metric->series.value = kind == HOT_GAUGE ? value : metric->series.value + value;
    metric->series.count++;
    return HOT_OK;
}

static inline hot_status hot_t_metric_service(uint32_t kind, hot_slice name, const hot_header *labels, size_t count,
                                              double value) {
    hot_status status = HOT_INVALID;
    hot_t_enter("metric");
    if (hot_t_is_word(name, 1) && kind >= HOT_COUNTER && kind <= HOT_HISTOGRAM && isfinite(value) &&
        (kind != HOT_COUNTER || value >= 0)) {
        char *copy = hot_t_copy(name.ptr, name.len), *text = hot_t_labels(labels, count);
        if (text != NULL)
            status = hot_t_count(kind, copy, text, value);
        free(copy);
        free(text);
    }
    if (status == HOT_INVALID)
        hot_t_breach("`metric` was refused: its kind (%u), name, value or a label, or another metric has the name",
                     (unsigned)kind);
    hot_t_leave();
    return status;
}

static hot_host hot_t_host = {
    HOT_ABI,          sizeof(hot_host), hot_t_log,       hot_t_now,      hot_t_config,
    hot_t_method,     hot_t_target,     hot_t_peer,      hot_t_headers,  hot_t_header,
    hot_t_time_left,  hot_t_body_read,  hot_t_body_all,  hot_t_request_trailers,
    hot_t_reply,      hot_t_respond,    hot_t_body_write, hot_t_trailers, hot_t_finish,
    hot_t_abort,      hot_t_metric_service, hot_t_notify};

#endif
