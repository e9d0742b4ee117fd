#include "deploy/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

static bool address_is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24 == 127;
    return a->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
}

int address_resolve(char out[ADDRESS_MAX], const char *name, struct err *e)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo numeric = hints, *found = NULL;
    size_t n = strlen(name);
    int rc;

    if (*name == '[' && n > 2) { /* an IPv6 address, as host:port has it */
        name++;
        n -= 2;
    }
    if (n >= ADDRESS_MAX)
        return err_set(e, ERR_NET, "an address of %zu bytes, at most %d", n, ADDRESS_MAX - 1);
    snprintf(out, ADDRESS_MAX, "%.*s", (int)n, name);
    numeric.ai_flags = AI_NUMERICHOST;
    if (!getaddrinfo(out, NULL, &numeric, &found)) {
        freeaddrinfo(found);
        return 0;
    }
    rc = getaddrinfo(out, NULL, &hints, &found);
    if (!rc && address_is_loopback(found->ai_addr)) {
        freeaddrinfo(found);
        return err_set(e, ERR_NET, "%s is this machine's loopback by name, which no other host reaches",
                       name);
    }
    if (!rc) {
        rc = getnameinfo(found->ai_addr, found->ai_addrlen, out, ADDRESS_MAX, NULL, 0, NI_NUMERICHOST);
        freeaddrinfo(found);
    }
    return rc ? err_set(e, ERR_NET, "%s has no address: %s", name, gai_strerror(rc)) : 0;
}
