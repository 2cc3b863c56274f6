/*
 * The contract between a module and the process that hosts it, version 0. docs/abi.md says the rest: which thread calls
 * what, who owns which bytes for how long, and what is refused.
 *
 * A module defines one symbol, `hot_module`, and one metadata note:
 *
 *     #include "hot_module.h"
 *     HOT_MODULE_METADATA("hello", "1.0.0", "routes = [\"/hello\"]\n");
 *     HOT_EXPORT const hot_table hot_module = { HOT_ABI, sizeof(hot_table), start, handle, NULL, NULL, NULL, NULL };
 *
 * and is linked with `cc -shared -fPIC`. It imports nothing from the host. C99 or later, C++11 or later, GCC or Clang.
 */
#ifndef HOT_MODULE_H
#define HOT_MODULE_H

#include <stddef.h>
#include <stdint.h>

/* HOT_EXPORT: a symbol that survives -fvisibility=hidden and the linker's garbage collection. */
#ifdef __cplusplus
#define HOT_EXPORT extern "C" __attribute__((visibility("default"), used))
#define HOT_EXPORT_DECLARE extern "C" __attribute__((visibility("default")))
#else
#define HOT_EXPORT __attribute__((visibility("default"), used))
#define HOT_EXPORT_DECLARE extern __attribute__((visibility("default")))
#endif

#define HOT_ABI 0u

/* What a service of the host or a function of the module answers. */
typedef int32_t hot_status;
#define HOT_OK 0
#define HOT_ENDED (-1)       /* no such exchange, or it has ended */
#define HOT_STATE (-2)       /* not now: a second head, a body before the head, trailers before the body's end */
#define HOT_INVALID (-3)     /* an argument: a null pointer, a status, a header that HTTP does not allow */
#define HOT_CANCELLED (-4)   /* the client is gone or the deadline has passed: nobody will see the answer */
#define HOT_WOULD_BLOCK (-5) /* only with HOT_NONBLOCK: nothing to read yet, no room to write yet */
#define HOT_TOO_LARGE (-6)   /* more than the limit that the call named or that the host holds */
#define HOT_NOT_FOUND (-7)   /* no such header */
#define HOT_FAILED (-8)      /* the module's own failure; the only status besides HOT_OK that a module answers */

/* Flags of body_read and body_write. Others are refused. */
#define HOT_NONBLOCK 1u

/* Events of notify. */
#define HOT_READABLE 1u /* body_read would not answer HOT_WOULD_BLOCK */
#define HOT_WRITABLE 2u /* body_write would not answer HOT_WOULD_BLOCK */
#define HOT_ENDING 4u   /* the gateway asks for an end: write what is left and finish within time_left */

/* Kinds of metric. */
#define HOT_COUNTER 1u   /* adds value, which is not negative */
#define HOT_GAUGE 2u     /* sets value */
#define HOT_HISTOGRAM 3u /* observes value, in seconds or whatever the name says; buckets from 0.005 to 10 */

/* Levels of log. */
#define HOT_LOG_ERROR 1u
#define HOT_LOG_WARN 2u
#define HOT_LOG_INFO 3u
#define HOT_LOG_DEBUG 4u

/* Names one exchange, that is one request and its response. Never 0, and never used again for another exchange. */
typedef uint64_t hot_exchange;

/* Borrowed bytes, not ended by a NUL. `ptr` may be null if `len` is 0. */
typedef struct hot_slice {
    const uint8_t *ptr;
    size_t len;
} hot_slice;

typedef struct hot_header {
    hot_slice name; /* in lower case when it comes from the host */
    hot_slice value;
} hot_header;

/*
 * The host's services. Lives as long as the process. Members are only ever added at the end: one that lies past `size`
 * is absent, so a module built against a newer header looks at `size` before it uses a newer member. All of them may be
 * called from any thread.
 */
typedef struct hot_host {
    uint32_t abi;
    uint32_t size;

    /* One line of text (UTF-8) for the module's log. Cut after 3,800 bytes. */
    void (*log)(uint32_t level, hot_slice text);
    /* Nanoseconds since 1970-01-01 00:00 UTC. */
    uint64_t (*now)(void);
    /* The release's config, as it was pushed; empty if there is none. Lives as long as the process. */
    hot_slice (*config)(void);

    /* What was asked. The bytes live until the exchange has ended (docs/abi.md, "Bytes"). */
    hot_status (*method)(hot_exchange, hot_slice *out);
    hot_status (*target)(hot_exchange, hot_slice *out); /* path with query, as in "/greet?name=Ada" */
    hot_status (*peer)(hot_exchange, hot_slice *out);   /* the client's address, as in "192.0.2.1:50000" */
    hot_status (*headers)(hot_exchange, const hot_header **out, size_t *count);
    hot_status (*header)(hot_exchange, hot_slice name, hot_slice *out); /* the first of that name, in any case */
    /* Until the deadline, as of now; 0 when it has passed, UINT64_MAX without one (docs/abi.md, "The deadline"). */
    hot_status (*time_left)(hot_exchange, uint64_t *nanoseconds);

    /* The next piece of the request's body, which lives until the next body_read or body_all; empty at the end. */
    hot_status (*body_read)(hot_exchange, uint32_t flags, hot_slice *out);
    /* All that is left of it, at most `limit` bytes, else HOT_TOO_LARGE; lives until the exchange has ended. */
    hot_status (*body_all)(hot_exchange, size_t limit, hot_slice *out);
    /* The request's trailers, after the end of its body. */
    hot_status (*request_trailers)(hot_exchange, const hot_header **out, size_t *count);

    /* The whole answer at once, and the end: as respond, body_write and finish, but cheaper. Never with 101. */
    hot_status (*reply)(hot_exchange, uint32_t status, const hot_header *headers, size_t count, hot_slice body);
    /* The head of the answer: status 200 to 599 and headers; or 101 to a request that came with the header `upgrade`,
       whose connection is then the module's (docs/abi.md, "After a 101"). */
    hot_status (*respond)(hot_exchange, uint32_t status, const hot_header *headers, size_t count);
    /* A piece of the body. Waits while the client is slow; with HOT_NONBLOCK it takes what there is room for. `written`
       may be null without HOT_NONBLOCK. */
    hot_status (*body_write)(hot_exchange, uint32_t flags, hot_slice body, size_t *written);
    /* Trailers, at most once, after the head; they travel with finish. None after a 101. Over HTTP/1.1 a client gets those
       that the head's header `trailer` names, if it asked for trailers. */
    hot_status (*trailers)(hot_exchange, const hot_header *headers, size_t count);
    /* The end of a complete answer. */
    hot_status (*finish)(hot_exchange);
    /* The end without one: the client gets 500, or a cut connection if the head is under way. `why` goes to the log. */
    hot_status (*abort)(hot_exchange, hot_slice why);

    /* Adds to, sets or observes one series of the module's metrics: that of this name and these labels. */
    hot_status (*metric)(uint32_t kind, hot_slice name, const hot_header *labels, size_t count, double value);
    /* On HOT_OK calls wake(context) exactly once, on any thread, maybe before it returns: when one of the events is so,
       or when the exchange is cancelled, past its deadline or ended. On any other status never. wake must not wait and
       calls no service (docs/abi.md, "Wake-up"). */
    hot_status (*notify)(hot_exchange, uint32_t events, void (*wake)(void *context), void *context);
} hot_host;

/*
 * What a module is: the type of the symbol `hot_module`, a constant. `start` must be there, and `handle` if the metadata
 * has routes; any other may be null. Members past `size` count as null.
 */
typedef struct hot_table {
    uint32_t abi;
    uint32_t size;

    /* Once, before all others. Sets *self to what the other functions get. On HOT_FAILED `why` may say why in UTF-8; its
       bytes must live until the process ends. */
    hot_status (*start)(const hot_host *host, hot_slice config, void **self, hot_slice *why);
    /* One call per exchange, from many threads at once. Ends it before it returns, or later from any thread. */
    void (*handle)(void *self, hot_exchange exchange);
    /* HOT_OK or HOT_FAILED; never two at a time, at the same time as handle. `why` lives until the next call. */
    hot_status (*health)(void *self, hot_slice *why);
    /* State for a successor: its schema number and bytes, which live until `stop`. The host does not call it yet. */
    hot_status (*save)(void *self, uint32_t *schema, hot_slice *state);
    /* State of a predecessor, after `start` and before any `handle`. The host does not call it yet. */
    hot_status (*load)(void *self, uint32_t schema, hot_slice state);
    /* Once and last: no other call is running or will come. Not called if one is still running when the grace ends. */
    void (*stop)(void *self);
} hot_table;

HOT_EXPORT_DECLARE const hot_table hot_module;

/* Whether a table (hot_host or hot_table) that the other side gave has this member at all. */
#define HOT_HAS(type, table, member)                                                                                   \
    ((table)->size >= offsetof(type, member) + sizeof((table)->member) && (table)->member != NULL)

/*
 * The metadata note: an ELF note (owner "hot", type 1) in the allocated section .note.hot, whose content is TOML text
 * with NUL bytes after it up to a multiple of four. It is read without running any code. Exactly one in a module.
 */
#define HOT_NOTE_OWNER "hot"
#define HOT_NOTE_TYPE 1u
#define HOT_NOTE_SECTION ".note.hot"

/* The note from its whole text. */
#define HOT_MODULE_NOTE(toml)                                                                                          \
    struct hot_note {                                                                                                  \
        uint32_t owner_size, text_size, type;                                                                          \
        char owner[4];                                                                                                 \
        char text[(sizeof(toml) + 3) / 4 * 4];                                                                         \
    };                                                                                                                 \
    HOT_EXPORT_DECLARE __attribute__((section(HOT_NOTE_SECTION), aligned(4))) const struct hot_note hot_module_note;   \
    HOT_EXPORT __attribute__((section(HOT_NOTE_SECTION), aligned(4))) const struct hot_note hot_module_note = {        \
        4, (sizeof(toml) + 3) / 4 * 4, HOT_NOTE_TYPE, HOT_NOTE_OWNER, toml}

/* The note from name, version and any further lines of TOML, each ended by "\n" ("" for none). All are literals. */
#define HOT_MODULE_METADATA(name, version, lines)                                                                      \
    HOT_MODULE_NOTE("format = 1\nname = \"" name "\"\nversion = \"" version "\"\nabi = 0\n" lines)

#endif
