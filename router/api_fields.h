/* api_fields: the two fields whose shape takes more than a line: a prompt and a list of messages.
 * Used by api.c only; the functions are rows of its table. */
#ifndef TANDEM_ROUTER_API_FIELDS_H
#define TANDEM_ROUTER_API_FIELDS_H

#include "router/api_json.h"

/* A string, an array of token ids, or an array that holds just one of these. */
int api_prompt(struct api_request *r, const char *name, const json_t *v, struct api_error *e);

/* An array of {role, content}; content is a string or an array of {type: "text", text}. */
int api_messages(struct api_request *r, const char *name, const json_t *v, struct api_error *e);

#endif
