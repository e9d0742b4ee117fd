#include "net/endpoint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

bool endpoint_is_tcp(const char *endpoint) { return !strncmp(endpoint, "tcp://", 6); }

bool endpoint_is_loopback(const char *endpoint)
{
    const char *host = endpoint + strlen("tcp://"), *colon = strrchr(host, ':');
    char text[INET_ADDRSTRLEN];
    size_t n = colon ? (size_t)(colon - host) : 0;
    struct in_addr v4;

    if (n == 0 || (n == 5 && !memcmp(host, "[::1]", 5)))
        return true;
    if (n >= sizeof(text))
        return false;
    memcpy(text, host, n);
    text[n] = '\0';
    return !strcmp(text, "localhost") ||
           (inet_pton(AF_INET, text, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127);
}

bool endpoint_taken(const char *endpoint)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    size_t n = strlen(endpoint);
    bool taken;
    int fd;

    if (strncmp(endpoint, "ipc://", 6) != 0 || endpoint[6] == '@' || n - 6 >= sizeof(sa.sun_path))
        return false;
    memcpy(sa.sun_path, endpoint + 6, n - 6);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    taken = connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 || errno == EAGAIN;
    close(fd);
    return taken;
}
