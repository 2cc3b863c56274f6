/* Asked to, it tries to open what is the node's and other modules', by the paths that it is told, and its own artifact. */
#include "zoo.h"

static void handle(void *self, hot_exchange exchange) {
    static const char *const reads[] = {"key", "record", "artifact", "config", "shadow", "folder"};
    struct zoo_report report = {.len = 0};
    char path[512], name[64];
    if (!zoo_is_asked(exchange)) {
        zoo_handle(self, exchange);
        return;
    }
    for (size_t each = 0; each < sizeof reads / sizeof *reads; each++)
        if (zoo_told(exchange, reads[each], path, sizeof path)) {
            snprintf(name, sizeof name, "read.%s", reads[each]);
            zoo_tried(&report, name, open(path, O_RDONLY | O_CLOEXEC) < 0);
        }
    if (zoo_told(exchange, "artifact", path, sizeof path))
        zoo_tried(&report, "write.artifact", open(path, O_WRONLY | O_CLOEXEC) < 0);
    /* The sealed file that it was loaded from. */
    zoo_tried(&report, "write.own", write(4, "x", 1) < 0);
    zoo_tried(&report, "cut.own", ftruncate(4, 0) != 0);
    zoo_tried(&report, "reopen.own", open("/proc/self/fd/4", O_WRONLY | O_TRUNC | O_CLOEXEC) < 0);
    if (zoo_told(exchange, "folder", path, sizeof path)) {
        strncat(path, "/" ZOO_MARK, sizeof path - strlen(path) - 1);
        zoo_tried(&report, "write.folder", open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600) < 0);
    }
    zoo_answer(exchange, &report);
}

ZOO(probe_start, handle, NULL);
