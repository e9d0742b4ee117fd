/* check: assertions that stay on in release, and arithmetic that reports overflow.
 *
 * ASSERT is for bugs only: a broken contract between our own functions. Bytes from a file, a peer or
 * a user are never asserted on; they are checked and answered with an err. */
#ifndef TANDEM_BASE_CHECK_H
#define TANDEM_BASE_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* Prints the condition with file:line and aborts. Does not return. */
_Noreturn void check_failed(const char *file, int line, const char *cond);

#define ASSERT(cond) ((cond) ? (void)0 : check_failed(__FILE__, __LINE__, #cond))
#define UNREACHABLE() check_failed(__FILE__, __LINE__, "unreachable")

/* *out = a * b, a + b. True if the result fits; false leaves *out unspecified. */
static inline bool size_mul(size_t *out, size_t a, size_t b)
{
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool size_add(size_t *out, size_t a, size_t b)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline size_t size_min(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t size_max(size_t a, size_t b) { return a > b ? a : b; }
static inline uint32_t u32_min(uint32_t a, uint32_t b) { return a < b ? a : b; }
static inline uint32_t u32_max(uint32_t a, uint32_t b) { return a > b ? a : b; }
/* a rounded up to a multiple of m; m > 0, and the caller knows that a + m does not overflow. */
static inline size_t size_round_up(size_t a, size_t m) { return (a + m - 1) / m * m; }
static inline size_t size_div_up(size_t a, size_t m) { return (a + m - 1) / m; }

#endif
