/* api_keys: who may use the router over HTTP, and how much: the API keys of a file.
 *
 *     # NAME KEY [concurrent=N] [tokens_minute=N] [priority=N] [admin]
 *     shop   sk-2d7f0c9a51e84b66             concurrent=8 tokens_minute=60000
 *     batch  sha256:9f86d081884c7d65...0a08  priority=5
 *     ops    sha256:60303ae22b998861...2752  admin
 *
 * A key is 16 to 256 printable characters, or the SHA-256 of one in hex; here only the sums are kept.
 * NAME is the tenant: several lines may have it, so that a key can be replaced while both work. What
 * a line does not limit has the router's own limits. priority is the first band that the key may ask
 * for. admin: /tandem/ too. The file is a secret: mode 0600. It is read again when it changes; one
 * that is wrong then leaves the keys as they were. Network thread; borrows nothing. */
#ifndef TANDEM_ROUTER_API_KEYS_H
#define TANDEM_ROUTER_API_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/sha256.h"
#include "net/msg.h"
#include "router/tenants.h"

#define API_KEYS_MAX 4096
#define API_KEY_MIN 16 /* characters of a key */
#define API_KEY_MAX 256

struct api_key {
    char name[MSG_NAME_MAX];
    uint8_t sum[SHA256_BYTES];
    struct tenant_limits limits;
    uint32_t priority;
    bool admin;
};

struct api_keys;

/* limits: of those that have none of their own. ERR_IO, ERR_CONFIG (mode), ERR_FORMAT, ERR_LIMIT: a
 * sentence with path and line, and never with a key. */
int api_keys_open(struct api_keys **k, const char *path, const struct tenant_limits *limits,
                  struct err *e);
void api_keys_close(struct api_keys **k);

/* Reads the file again if it is another than before. 1: it was read; 0: it is the same; negative: the
 * old keys stay. The same fault is told once. */
int api_keys_refresh(struct api_keys *k, struct err *e);

/* The holder of secret[n]; NULL: nobody. As long as the keys are not refreshed. */
const struct api_key *api_keys_find(const struct api_keys *k, const char *secret, size_t n);

#endif
