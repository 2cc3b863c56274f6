/* Takes STEP (4) MiB more of memory with each request and never gives any back; stops at MOST (320) MiB. */
#include "zoo.h"

#include <stdatomic.h>

#ifndef STEP
#define STEP 4
#endif
#ifndef MOST
#define MOST 320
#endif

static atomic_ulong taken;
/* What nobody looks at the compiler leaves out. */
static char *volatile last;

static void handle(void *self, hot_exchange exchange) {
    if (atomic_fetch_add(&taken, STEP) < MOST) {
        char *memory = malloc((size_t)STEP << 20);
        if (memory != NULL)
            memset(memory, 1, (size_t)STEP << 20);
        last = memory;
    }
    zoo_handle(self, exchange);
}

ZOO(probe_start, handle, NULL);
