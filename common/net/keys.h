/* keys: who may speak with whom beyond one machine: the key files of CURVE, made, read and written.
 *
 *     # ROLE NAME PUBLIC [SECRET]         keys are 40 characters of Z85; a comment's line
 *     router router  U@}pD...             begins with '#'. The public keys: who is let in
 *     node   node    kZ8/b...  3Jq=W...   with its secret: what a process of that role is itself
 *     client bench   x*0Gn...
 *
 * A file has one router, and of each role at most one line with a secret. A router's nodes socket lets in
 * `node` keys, its clients socket `client` and `node` keys, a decode node's KV socket `node` keys. The
 * file is a secret itself: mode 0600. Nothing here opens a socket (net/sock_curve.h). Plain data. */
#ifndef TANDEM_NET_KEYS_H
#define TANDEM_NET_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define KEYS_TEXT 41 /* 40 characters of Z85 and a NUL */
#define KEYS_NAME_MAX 64
#define KEYS_MAX 4096 /* lines with a key in a file */

enum keys_role { KEYS_ROUTER, KEYS_NODE, KEYS_CLIENT, KEYS_ROLE_COUNT };
#define KEYS_BIT(role) (1u << (role)) /* in a set of roles */
#define KEYS_NODES KEYS_BIT(KEYS_NODE)
#define KEYS_CLIENTS (KEYS_BIT(KEYS_CLIENT) | KEYS_BIT(KEYS_NODE))

extern const char *const keys_role_names[KEYS_ROLE_COUNT];

struct keys_pair {
    char public_key[KEYS_TEXT], secret[KEYS_TEXT];
};

struct keys_entry {
    enum keys_role role;
    char name[KEYS_NAME_MAX];
    struct keys_pair pair; /* secret "": not ours */
};

/* A file's. */
struct keys {
    struct keys_entry *entries;
    uint32_t n;
};

/* The two pairs of a cluster: all its nodes share one unless their files say otherwise. */
struct keys_set {
    struct keys_pair router, node;
};

/* Reads a text into a zeroed k; keys_fini in any case. path is what the sentences call it:
 * "PATH:3: the public key has 39 characters, not 40". ERR_FORMAT, ERR_LIMIT. */
int keys_parse(struct keys *k, const char *text, size_t n, const char *path, struct err *e);

/* The same of a file. ERR_CONFIG: others than its owner may read it; ERR_IO. */
int keys_read(struct keys *k, const char *path, struct err *e);

/* Wipes the secrets and frees. */
void keys_fini(struct keys *k);

/* The line of that role that has a secret; NULL: none. Borrowed. */
const struct keys_entry *keys_own(const struct keys *k, enum keys_role role);
const struct keys_entry *keys_find(const struct keys *k, const char *public_key);
/* The router's line. */
const struct keys_entry *keys_router(const struct keys *k);

/* New pairs. ERR_UNSUPPORTED: libzmq has no CURVE. */
int keys_pair_make(struct keys_pair *out, struct err *e);
int keys_make(struct keys_set *out, struct err *e);

/* The set that a file with both secrets holds; false: it has not both. */
bool keys_set_of(struct keys_set *out, const struct keys *k);

/* Appends the key file of processes of the roles in `roles`: all public keys of the set, and the
 * secrets of those. A host with router and nodes has KEYS_BIT(KEYS_ROUTER) | KEYS_BIT(KEYS_NODE). */
void keys_text(const struct keys_set *s, unsigned roles, struct str *out);

/* Appends one line, without the secret if that is "". */
void keys_line(enum keys_role role, const char *name, const struct keys_pair *pair, struct str *out);

/* Replaces the file by the text, mode 0600, in one step: whoever reads it meanwhile has the old or the
 * new. ERR_IO. */
int keys_write(const char *path, const struct str *text, struct err *e);

#endif
