/* Asked to, it tries to connect to the node's sockets and to a TCP port that the operator did not name (as etcd's). */
#include "zoo.h"

#include <arpa/inet.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static int to_path(const char *path, int type) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int made = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int failed = connect(made, (struct sockaddr *)&address, sizeof address);
    int error = errno;
    close(made);
    errno = error;
    return failed;
}

static int to_port(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int made = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int failed = connect(made, (struct sockaddr *)&address, sizeof address);
    int error = errno;
    close(made);
    errno = error;
    return failed;
}

static void handle(void *self, hot_exchange exchange) {
    struct zoo_report report = {.len = 0};
    char value[512];
    if (!zoo_is_asked(exchange)) {
        zoo_handle(self, exchange);
        return;
    }
    if (zoo_told(exchange, "control", value, sizeof value))
        zoo_tried(&report, "connect.control", to_path(value, SOCK_STREAM) != 0);
    if (zoo_told(exchange, "spawn", value, sizeof value))
        zoo_tried(&report, "connect.hot-spawn", to_path(value, SOCK_SEQPACKET) != 0);
    if (zoo_told(exchange, "port", value, sizeof value))
        zoo_tried(&report, "connect.port", to_port(atoi(value)) != 0);
    zoo_answer(exchange, &report);
}

ZOO(probe_start, handle, NULL);
