/* Answers to PutRecords (see kinesis_answer.h).
 *
 * Both formats become one sequence of tokens; a text stays where it is in the answer. Jansson and libcbor would build a tree of a thousand nodes per answer, which costs the
 * bench more than everything else it does for a request. Escapes in JSON texts are left as they are: names, codes and sequence numbers have none. */
#include "client/kinesis_answer.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { DEPTH_MAX = 16 };
enum token { T_ERROR, T_OBJECT, T_LIST, T_END, T_KEY, T_TEXT, T_OTHER, T_DONE };

struct reader {
    bool cbor;
    const uint8_t *p, *end;
    unsigned depth;
    struct level { bool object, value; uint64_t left; } levels[DEPTH_MAX + 1]; /* value: a key's value is next; left: items to come (CBOR), UINT64_MAX: not known */
    const char *text; /* of the last T_KEY or T_TEXT */
    size_t text_n;
};

static enum token push(struct reader *r, bool object, uint64_t left)
{
    if (r->depth == DEPTH_MAX) {
        return T_ERROR;
    }
    r->levels[++r->depth] = (struct level){.object = object, .left = left};
    return object ? T_OBJECT : T_LIST;
}

/* ---- JSON ---- */

static bool json_text(struct reader *r)
{
    const uint8_t *from = ++r->p;
    for (; r->p < r->end && *r->p != '"'; r->p++) {
        r->p += *r->p == '\\';
    }
    if (r->p >= r->end) {
        return false;
    }
    r->text = (const char *)from;
    r->text_n = (size_t)(r->p++ - from);
    return true;
}

static void json_blanks(struct reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' || *r->p == '\r' || *r->p == '\t')) {
        r->p++;
    }
}

/* Of a number, true, false or null. */
static bool json_word(uint8_t c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == 'E' || c == '+' || c == '-' || c == '.'; }

/* Commas are taken for blanks: who writes wrong JSON is found out by what is missing in it. */
static enum token json_next(struct reader *r)
{
    struct level *l = &r->levels[r->depth];
    const uint8_t *from;
    json_blanks(r);
    while (r->depth > 0 && r->p < r->end && *r->p == ',') {
        r->p++;
        json_blanks(r);
    }
    if (r->p == r->end) {
        return r->depth == 0 ? T_DONE : T_ERROR;
    }
    switch (*r->p) {
    case '{':
    case '[':
        l->value = false;
        return push(r, *r->p++ == '{', UINT64_MAX);
    case '}':
    case ']':
        if (r->depth == 0 || l->value || l->object != (*r->p == '}')) {
            return T_ERROR;
        }
        r->p++;
        r->depth--;
        return T_END;
    case '"':
        if (!json_text(r)) {
            return T_ERROR;
        }
        if (!l->object || l->value) {
            l->value = false;
            return T_TEXT;
        }
        l->value = true;
        json_blanks(r);
        return r->p < r->end && *r->p++ == ':' ? T_KEY : T_ERROR;
    default:
        if (l->object && !l->value) {
            return T_ERROR;
        }
        l->value = false;
        for (from = r->p; r->p < r->end && json_word(*r->p);) {
            r->p++;
        }
        return r->p > from ? T_OTHER : T_ERROR;
    }
}

/* ---- CBOR ---- */

static bool cbor_head(struct reader *r, unsigned *major, uint64_t *n, bool *indefinite)
{
    if (r->p == r->end) {
        return false;
    }
    unsigned low = *r->p & 31, bytes = low < 24 || low == 31 ? 0 : 1u << (low - 24);
    *major = *r->p++ >> 5;
    *indefinite = low == 31;
    *n = low < 24 ? low : 0;
    if ((low > 27 && low != 31) || (size_t)(r->end - r->p) < bytes) {
        return false;
    }
    for (unsigned i = 0; i < bytes; i++) {
        *n = *n << 8 | *r->p++;
    }
    return true;
}

static enum token cbor_next(struct reader *r)
{
    struct level *l = &r->levels[r->depth];
    if (r->depth == 0 && r->p == r->end) {
        return T_DONE;
    }
    if (r->depth > 0 && l->left == 0) {
        r->depth--;
        return T_END;
    }
    unsigned major;
    uint64_t n;
    bool indefinite;
    if (!cbor_head(r, &major, &n, &indefinite)) {
        return T_ERROR;
    }
    if (major == 7 && indefinite) { /* break */
        if (r->depth == 0 || l->left != UINT64_MAX || l->value) {
            return T_ERROR;
        }
        r->depth--;
        return T_END;
    }
    while (major == 6) { /* a tag says more about the value behind it */
        if (indefinite || !cbor_head(r, &major, &n, &indefinite)) {
            return T_ERROR;
        }
    }
    bool key = l->object && !l->value;
    l->value = key;
    l->left -= l->left != UINT64_MAX && r->depth > 0;
    if (key && major != 3) {
        return T_ERROR;
    }
    switch (major) {
    case 2:
    case 3:
        if (indefinite || n > (uint64_t)(r->end - r->p)) {
            return T_ERROR;
        }
        r->text = (const char *)r->p;
        r->text_n = (size_t)n;
        r->p += n;
        return key ? T_KEY : major == 3 ? T_TEXT : T_OTHER;
    case 4:
    case 5:
        if (!indefinite && n > (uint64_t)(r->end - r->p)) { /* an item takes a byte at least */
            return T_ERROR;
        }
        return push(r, major == 5, indefinite ? UINT64_MAX : major == 5 ? 2 * n : n);
    default:
        return indefinite ? T_ERROR : T_OTHER;
    }
}

/* ---- both ---- */

static enum token next(struct reader *r) { return r->cbor ? cbor_next(r) : json_next(r); }

/* Passes over the rest of what the token began. */
static bool skip(struct reader *r, enum token t)
{
    for (unsigned depth = r->depth - (t == T_OBJECT || t == T_LIST); r->depth > depth;) {
        t = next(r);
        if (t == T_ERROR || t == T_DONE) {
            return false;
        }
    }
    return t != T_ERROR && t != T_DONE;
}

static bool is(const struct reader *r, const char *name) { return r->text_n == strlen(name) && memcmp(r->text, name, r->text_n) == 0; }

/* Calls member() for each key of the object that begins here; it takes the value. */
static bool object_each(struct reader *r, bool (*member)(struct reader *r, void *user), void *user)
{
    for (;;) {
        enum token t = next(r);
        if (t == T_END) {
            return true;
        }
        if (t != T_KEY || !member(r, user)) {
            return false;
        }
    }
}

struct record { bool sequence; char code[64], message[200]; };

static void cut(const struct reader *r, char *out, size_t size) { snprintf(out, size, "%.*s", (int)(r->text_n < size ? r->text_n : size - 1), r->text); }

static bool record_member(struct reader *r, void *user)
{
    struct record *record = user;
    bool sequence = is(r, "SequenceNumber"), code = is(r, "ErrorCode"), message = is(r, "ErrorMessage");
    enum token t = next(r);
    if (t == T_TEXT) {
        record->sequence = record->sequence || (sequence && r->text_n > 0);
        if (code) {
            cut(r, record->code, sizeof record->code);
        } else if (message) {
            cut(r, record->message, sizeof record->message);
        }
    }
    return skip(r, t);
}

struct outcomes { size_t n; kinesis_outcome_cb each; void *user; };

static bool answer_member(struct reader *r, void *user)
{
    struct outcomes *o = user;
    bool records = is(r, "Records");
    enum token t = next(r);
    if (!records || t != T_LIST) {
        return skip(r, t);
    }
    for (t = next(r); t == T_OBJECT; t = next(r)) {
        struct record record = {0};
        if (!object_each(r, record_member, &record)) {
            return false;
        }
        if (o->each != NULL) {
            o->each(o->user, o->n, &(struct kinesis_outcome){.stored = record.sequence && record.code[0] == '\0', .code = record.code, .message = record.message});
        }
        o->n++;
    }
    return t == T_END;
}

static bool read_all(bool cbor, const void *p, size_t n, bool (*member)(struct reader *r, void *user), void *user)
{
    struct reader r = {.cbor = cbor, .p = p, .end = (const uint8_t *)p + n};
    return next(&r) == T_OBJECT && object_each(&r, member, user) && next(&r) == T_DONE;
}

bool kinesis_outcomes_read(bool cbor, const void *p, size_t n, size_t expected, kinesis_outcome_cb each, void *user)
{
    struct outcomes counted = {0}, told = {.each = each, .user = user};
    return read_all(cbor, p, n, answer_member, &counted) && counted.n == expected && read_all(cbor, p, n, answer_member, &told);
}

struct error { char *type, *message; };

static bool error_member(struct reader *r, void *user)
{
    struct error *e = user;
    bool type = is(r, "__type"), message = is(r, "message") || is(r, "Message");
    enum token t = next(r);
    if (t == T_TEXT && type) {
        const char *hash = memrchr(r->text, '#', r->text_n);
        if (hash != NULL) { /* com.amazonaws...#Name */
            r->text_n -= (size_t)(hash + 1 - r->text);
            r->text = hash + 1;
        }
        cut(r, e->type, 64);
    } else if (t == T_TEXT && message) {
        cut(r, e->message, 200);
    }
    return skip(r, t);
}

void kinesis_error_read(bool cbor, const void *p, size_t n, char type[64], char message[200])
{
    type[0] = message[0] = '\0';
    read_all(cbor, p, n, error_member, &(struct error){type, message});
}

bool kinesis_throttled(const char *type)
{
    return strcmp(type, "ProvisionedThroughputExceededException") == 0 || strcmp(type, "LimitExceededException") == 0 || strcmp(type, "ThrottlingException") == 0;
}
