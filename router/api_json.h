/* api_json: what the readers of client JSON share: a bounded parse, and refusals that show the
 * value. Used by api*.c only. */
#ifndef TANDEM_ROUTER_API_JSON_H
#define TANDEM_ROUTER_API_JSON_H

#include <jansson.h>

#include "router/api.h"

/* The object in body[n]; NULL with e set. Owned by the caller (json_decref). */
json_t *api_json_load(const char *body, size_t n, struct api_error *e);

/* "<name> is <value>, but must be <what>"; returns ERR_ARG. */
int api_json_refuse(struct api_error *e, const char *name, const json_t *value, const char *what);

/* Reads one value; min and max inclusive. 0, or ERR_ARG with e set. */
int api_json_int(int64_t *out, const char *name, const json_t *v, int64_t min, int64_t max,
                 struct api_error *e);
int api_json_number(double *out, const char *name, const json_t *v, double min, double max,
                    struct api_error *e);
int api_json_bool(bool *out, const char *name, const json_t *v, struct api_error *e);
/* *out is the caller's (mem_free), NUL-terminated; what was there is freed. */
int api_json_text(char **out, size_t *bytes, const char *name, const json_t *v,
                  struct api_error *e);
/* Token ids, 1 .. MSG_TOKENS_MAX of them unless empty is allowed; *out as above. */
int api_json_ids(uint32_t **out, uint32_t *n, const char *name, const json_t *v, bool may_be_empty,
                 struct api_error *e);

#endif
