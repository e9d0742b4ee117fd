#include "deploy/paths.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/str.h"

#define PATHS_MODEL "austen-5m-q8_0.gguf"

const char *paths_program_dir(void)
{
    static char dir[PATH_MAX];
    ssize_t n;
    char *slash;

    if (dir[0])
        return dir;
    n = readlink("/proc/self/exe", dir, sizeof(dir) - 1);
    dir[n > 0 ? n : 0] = '\0';
    slash = strrchr(dir, '/');
    if (slash && slash != dir)
        *slash = '\0';
    else
        strcpy(dir, ".");
    return dir;
}

char *paths_resolve(const char *dir, const char *path)
{
    struct str s = {0};

    if (path[0] != '/')
        str_addf(&s, "%s/", dir);
    str_adds(&s, path);
    return str_steal(&s);
}

char *paths_dir(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (!slash)
        return mem_strdup(".");
    return slash == path ? mem_strdup("/") : mem_strndup(path, (size_t)(slash - path));
}

char *paths_default_model(const char *dir, struct err *e)
{
    const char *program = paths_program_dir();
    const struct {
        const char *base, *below;
    } places[] = {
        {dir, "demo"},
        {program, "../share/tandem"},
        {program, "../../deploy/demo"},    /* build/bin */
        {program, "../../../deploy/demo"}, /* build/san/bin */
    };

    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        struct str s = {0};

        str_addf(&s, "%s/%s/" PATHS_MODEL, places[i].base, places[i].below);
        if (access(str_text(&s), R_OK) == 0)
            return str_steal(&s);
        str_fini(&s);
    }
    err_set(e, ERR_NOT_FOUND,
            "model: none was given, and " PATHS_MODEL " is neither in %s/demo nor in "
            "%s/../share/tandem",
            dir, program);
    return NULL;
}
