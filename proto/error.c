#include "proto/error.h"

#include <stddef.h>

struct error_info {
    const char *name;
    const char *text;
    enum sluice_outcome outcome;
    enum sluice_retry retry;
};

static const struct error_info errors[] = {
#define X(error_name, value, error_outcome, error_retry, error_text) \
    [value] = {#error_name, error_text, SLUICE_##error_outcome, SLUICE_RETRY_##error_retry},
    SLUICE_ERRORS(X)
#undef X
};

static const struct error_info *error_info(int code)
{
    if (code < 0 || (size_t)code >= sizeof(errors) / sizeof(errors[0]) || errors[code].name == NULL) {
        return &errors[SLUICE_E_INTERNAL];
    }
    return &errors[code];
}

const char *sluice_error_text(int code) { return error_info(code)->text; }

const char *sluice_error_name(int code) { return error_info(code)->name; }

enum sluice_outcome sluice_error_outcome(int code) { return error_info(code)->outcome; }

enum sluice_retry sluice_error_retry(int code) { return error_info(code)->retry; }
