/* The bench's reader of answers to PutRecords. First byte: CBOR or JSON. Whatever the bytes are, at most one number of records fits them, and each is told once, in order; an
 * answer made of the input's bytes is read as it was made, and not if it is cut. */
#include "fuzz.h"

#include <stdio.h>

#include "client/kinesis_answer.h"

enum { EXPECTED_MAX = 40, MADE_MAX = 32 };

struct told { size_t n; bool stored[MADE_MAX]; };

static void each(void *user, size_t index, const struct kinesis_outcome *o)
{
    struct told *t = user;
    sluice_assert(index == t->n++ && strlen(o->code) < 64 && strlen(o->message) < 200 && !(o->stored && o->code[0] != '\0'));
    if (index < MADE_MAX) {
        t->stored[index] = o->stored;
    }
}

static void any(bool cbor, const uint8_t *data, size_t size)
{
    uint8_t *copy = fuzz_copy(data, size);
    unsigned fits = 0;
    for (size_t expected = 0; expected <= EXPECTED_MAX; expected++) {
        struct told told = {0};
        bool read = kinesis_outcomes_read(cbor, copy, size, expected, each, &told);
        sluice_assert(told.n == (read ? expected : 0));
        fits += read;
    }
    sluice_assert(fits <= 1);
    char type[64], message[200];
    kinesis_error_read(cbor, copy, size, type, message);
    sluice_assert(strlen(type) < sizeof type && strlen(message) < sizeof message);
    kinesis_throttled(type);
    free(copy);
}

/* A record for each byte: stored if it is even. CBOR in lists of known length or not, by the second bit of the first. */
static size_t make(bool cbor, const uint8_t *data, size_t n, char out[4096])
{
    size_t len = 0;
    bool open = n > 0 && (data[0] & 2) != 0;
    if (cbor) {
        len += (size_t)sprintf(out, "%cgRecords", open ? 0xbf : 0xa1);
        out[len++] = (char)(open ? 0x9f : 0x98);
        if (!open) {
            out[len++] = (char)n;
        }
    } else {
        len += (size_t)sprintf(out, "{\"FailedRecordCount\":0, \"Records\":[");
    }
    for (size_t i = 0; i < n; i++) {
        bool stored = (data[i] & 1) == 0;
        const char *name = stored ? "SequenceNumber" : "ErrorCode", *value = stored ? "17" : "No";
        len += (size_t)(cbor ? sprintf(out + len, "%c%c%s%c%s", 0xa1, 0x60 + (int)strlen(name), name, 0x60 + (int)strlen(value), value)
                             : sprintf(out + len, "%s{\"%s\" : \"%s\"}", i > 0 ? "," : "", name, value));
    }
    if (!cbor) {
        len += (size_t)sprintf(out + len, "]}");
    } else if (open) {
        out[len++] = (char)0xff;
        out[len++] = (char)0xff;
    }
    return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    bool cbor = (data[0] & 1) != 0;
    any(cbor, ++data, --size);
    char text[4096];
    size_t n = min_u64(size, MADE_MAX), len = make(cbor, data, n, text);
    struct told told = {0};
    sluice_assert(kinesis_outcomes_read(cbor, text, len, n, each, &told) && told.n == n);
    for (size_t i = 0; i < n; i++) {
        sluice_assert(told.stored[i] == ((data[i] & 1) == 0));
    }
    sluice_assert(!kinesis_outcomes_read(cbor, text, len, n + 1, NULL, NULL) && !kinesis_outcomes_read(cbor, text, len - 1, n, NULL, NULL));
    return 0;
}
