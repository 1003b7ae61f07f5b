/* aws_validate.c: bounds, patterns, enumerated values and required members, with the words of AWS.
 *
 * A structure's members are checked in the model's order, each one for presence, enumerated values, pattern, lower and upper bound, and then what is in it.
 * Entries of lists and maps of strings are told together ("Member must satisfy constraint: [...]"), those of lists of structures one by one ("records.1.member.data"). */
#include <stdarg.h>
#include <stdio.h>

#include "proto/base.h"
#include "server/aws/aws_decode.h"
#include "server/aws/utf8.h"

enum { PATH_MAX_BYTES = 256, TEXT_MAX = AWS_ERRORS_MAX * (AWS_VALUE_TEXT_MAX + 1024) };

struct report {
    struct arena *arena;
    unsigned errors;
    char *text; /* TEXT_MAX, from the arena once there is an error */
    size_t n;
};

/* Where a value stands: one name after the other, from the innermost outwards. */
struct path {
    const struct path *outer;
    const char *name; /* NULL: "N.member" */
    uint32_t number;
};

__attribute__((format(printf, 2, 3))) static void add(struct report *r, const char *format, ...)
{
    if (r->text == NULL) {
        return;
    }
    va_list args;
    va_start(args, format);
    int n = vsnprintf(r->text + r->n, TEXT_MAX - r->n, format, args);
    va_end(args);
    r->n = min_u64(r->n + (size_t)n, TEXT_MAX - 1);
}

static void add_path(struct report *r, const struct path *p)
{
    if (p->outer != NULL) {
        add_path(r, p->outer);
        add(r, ".");
    }
    if (p->name == NULL) {
        add(r, "%u.member", p->number);
    } else {
        char first = p->name[0];
        add(r, "%c%s", first >= 'A' && first <= 'Z' ? first - 'A' + 'a' : first, p->name + 1);
    }
}

/* Cut between characters. NUL, which JSON can bring, ends no text of ours. */
static void add_text(struct report *r, struct aws_text t, size_t room)
{
    size_t n = min_u64(t.n, room);
    while (n < t.n && n > 0 && ((uint8_t)t.p[n] & 0xc0) == 0x80) {
        n--;
    }
    for (size_t i = 0; i < n && r->text != NULL && r->n < TEXT_MAX - 1; i++) {
        r->text[r->n++] = t.p[i] != '\0' ? t.p[i] : ' ';
    }
    if (n < t.n) {
        add(r, "...");
    }
}

static void add_value(struct report *r, const struct aws_value *v, size_t room)
{
    switch (v->shape->type) {
    case AWS_STRING: add_text(r, v->text, room); break;
    case AWS_BLOB: add(r, "java.nio.HeapByteBuffer[pos=0 lim=%zu cap=%zu]", v->text.n, v->text.n); break;
    case AWS_INTEGER:
    case AWS_LONG:
    case AWS_TIMESTAMP: add(r, "%lld", (long long)v->integer); break;
    case AWS_DOUBLE: add(r, "%g", v->number); break;
    case AWS_BOOLEAN: add(r, "%s", v->boolean ? "true" : "false"); break;
    case AWS_STRUCTURE: add(r, "com.amazonaws.kinesis.v20131202.%s", v->shape->name); break;
    case AWS_LIST:
    case AWS_MAP: {
        bool map = v->shape->type == AWS_MAP;
        size_t from = r->n;
        add(r, map ? "{" : "[");
        for (uint32_t i = 0; i < v->list.n; i++) {
            add(r, i > 0 ? ", " : "");
            if (r->text == NULL || r->n - from > room) {
                add(r, "...");
                break;
            }
            if (map) {
                add_value(r, &v->list.v[2 * i], room / 4);
                add(r, "=");
            }
            const struct aws_value *entry = map ? &v->list.v[2 * i + 1] : &v->list.v[i];
            if (entry->shape == NULL) {
                add(r, "null");
            } else {
                add_value(r, entry, room / 4);
            }
        }
        add(r, map ? "}" : "]");
        break;
    }
    }
}

/* Begins an error: what follows is the constraint. False: enough have been told. */
static bool fail(struct report *r, const struct path *path, const struct aws_value *v)
{
    if (r->errors == AWS_ERRORS_MAX) {
        return false;
    }
    if (r->errors++ == 0) {
        r->text = arena_alloc(r->arena, TEXT_MAX);
    } else {
        add(r, "; ");
    }
    if (v == NULL || v->shape == NULL) {
        add(r, "Value null at '");
    } else {
        add(r, "Value '");
        add_value(r, v, AWS_VALUE_TEXT_MAX);
        add(r, "' at '");
    }
    add_path(r, path);
    add(r, "' failed to satisfy constraint: ");
    return true;
}

/* ---- one value -------------------------------------------------------------------------------------------------------- */

static bool value_enumerated(const struct aws_shape *shape, struct aws_text text)
{
    for (unsigned i = 0; i < shape->n_values; i++) {
        if (aws_text_is(text, shape->values[i])) {
            return true;
        }
    }
    return shape->n_values == 0;
}

static bool value_matches(const struct aws_shape *shape, struct aws_text text)
{
    return shape->pattern == NULL || aws_pattern_match(shape->match != NULL ? shape->match : shape->pattern, text.p, text.n);
}

static void add_values(struct report *r, const struct aws_shape *shape)
{
    for (unsigned i = 0; i < shape->n_values; i++) {
        add(r, "%s%s", i > 0 ? ", " : "", shape->values[i]);
    }
}

/* What the bounds count of a value. */
static int64_t measure(const struct aws_value *v)
{
    switch (v->shape->type) {
    case AWS_STRING: return (int64_t)utf8_length(v->text.p, v->text.n);
    case AWS_BLOB: return (int64_t)v->text.n;
    case AWS_LIST:
    case AWS_MAP: return v->list.given;
    default: return v->integer;
    }
}

static bool within(const struct aws_value *v)
{
    int64_t n = v->shape->bounded ? measure(v) : 0;
    return !v->shape->bounded || (n >= v->shape->min && n <= v->shape->max);
}

static bool string_valid(const struct aws_value *v)
{
    return value_enumerated(v->shape, v->text) && within(v) && value_matches(v->shape, v->text);
}

/* All that must hold of a list's strings, a map's keys or values, told in one. */
static void check_strings(struct report *r, const struct path *path, const struct aws_value *v, const struct aws_shape *item, unsigned from, const char *what)
{
    unsigned width = v->shape->type == AWS_MAP ? 2 : 1;
    bool valid = true;
    for (uint32_t i = 0; i < v->list.n && valid; i++) {
        const struct aws_value *entry = &v->list.v[i * width + from];
        valid = entry->shape != NULL && string_valid(entry);
    }
    if (valid || !fail(r, path, v)) {
        return;
    }
    add(r, "%s must satisfy constraint: [", what);
    const char *comma = "";
    if (item->bounded) {
        add(r, "Member must have length less than or equal to %lld, Member must have length greater than or equal to %lld", (long long)item->max,
            (long long)item->min);
        comma = ", ";
    }
    if (item->pattern != NULL) {
        add(r, "%sMember must satisfy regular expression pattern: %s", comma, item->pattern);
        comma = ", ";
    }
    if (item->n_values > 0) {
        add(r, "%sMember must satisfy enum value set: [", comma);
        add_values(r, item);
        add(r, "]");
    }
    add(r, "]");
}

static void check_structure(struct report *r, const struct path *outer, const struct aws_value *v);

static void check_entries(struct report *r, const struct path *path, const struct aws_value *v)
{
    const struct aws_shape *item = v->shape->item;
    if (v->shape->type == AWS_MAP) {
        check_strings(r, path, v, v->shape->key, 0, "Map keys");
        check_strings(r, path, v, item, 1, "Map value");
    } else if (item->type == AWS_STRING) {
        check_strings(r, path, v, item, 0, "Member");
    } else {
        for (uint32_t i = 0; i < v->list.n && r->errors < AWS_ERRORS_MAX; i++) {
            struct path entry = {.outer = path, .number = i + 1};
            if (v->list.v[i].shape != NULL) {
                check_structure(r, &entry, &v->list.v[i]);
            } else if (fail(r, &entry, NULL)) {
                add(r, "Member must not be null");
            }
        }
    }
}

static void check_value(struct report *r, const struct path *path, const struct aws_value *v)
{
    const struct aws_shape *shape = v->shape;
    bool number = shape->type == AWS_INTEGER || shape->type == AWS_LONG;
    if (shape->type == AWS_STRING && !value_enumerated(shape, v->text) && fail(r, path, v)) {
        add(r, "Member must satisfy enum value set: [");
        add_values(r, shape);
        add(r, "]");
    }
    /* A text beyond its length is not matched: patterns cost time. */
    int64_t n = shape->bounded ? measure(v) : 0;
    if (shape->type == AWS_STRING && (!shape->bounded || n <= shape->max) && !value_matches(shape, v->text) && fail(r, path, v)) {
        add(r, "Member must satisfy regular expression pattern: %s", shape->pattern);
    }
    if (shape->bounded && n < shape->min && fail(r, path, v)) {
        add(r, "Member must have %s greater than or equal to %lld", number ? "value" : "length", (long long)shape->min);
    }
    if (shape->bounded && n > shape->max && fail(r, path, v)) {
        add(r, "Member must have %s less than or equal to %lld", number ? "value" : "length", (long long)shape->max);
    }
    if (shape->type == AWS_STRUCTURE) {
        check_structure(r, path, v);
    } else if (shape->type == AWS_LIST || shape->type == AWS_MAP) {
        check_entries(r, path, v);
    }
}

static void check_structure(struct report *r, const struct path *outer, const struct aws_value *v)
{
    for (unsigned i = 0; i < v->shape->n_members && r->errors < AWS_ERRORS_MAX; i++) {
        const struct aws_member *m = &v->shape->members[i];
        struct path path = {.outer = outer, .name = aws_member_names[m->id]};
        if (v->list.v[i].shape != NULL) {
            check_value(r, &path, &v->list.v[i]);
        } else if (m->required && fail(r, &path, NULL)) {
            add(r, "Member must not be null");
        }
    }
}

/* The whole message: the number of errors comes first and is known last. */
static const char *report_end(struct report *r)
{
    if (r->errors == 0) {
        return NULL;
    }
    size_t size = r->n + 64;
    char *message = r->text != NULL ? arena_alloc(r->arena, size) : NULL;
    if (message == NULL) {
        return "1 validation error detected";
    }
    snprintf(message, size, "%u validation error%s detected: %s", r->errors, r->errors > 1 ? "s" : "", r->text);
    return message;
}

const char *aws_validate(const struct aws_value *value, struct arena *arena)
{
    struct report r = {.arena = arena};
    check_structure(&r, NULL, value);
    return report_end(&r);
}

const char *aws_validate_partition_keys(const struct aws_value *input, struct arena *arena)
{
    struct report r = {.arena = arena};
    struct path key = {.name = aws_member_names[AWS_M_PartitionKey]};
    const struct aws_value *records = input->shape == aws_operations[AWS_OP_PutRecords].input ? aws_member(input, AWS_M_Records) : NULL;
    if (records == NULL) {
        if (aws_member(input, AWS_M_PartitionKey) == NULL && fail(&r, &key, NULL)) {
            add(&r, "Member must not be null");
        }
        return report_end(&r);
    }
    struct path list = {.name = aws_member_names[AWS_M_Records]};
    for (uint32_t i = 0; i < records->list.n && r.errors < AWS_ERRORS_MAX; i++) {
        struct path entry = {.outer = &list, .number = i + 1};
        key.outer = &entry;
        if (aws_member(&records->list.v[i], AWS_M_PartitionKey) == NULL && fail(&r, &key, NULL)) {
            add(&r, "Member must not be null");
        }
    }
    return report_end(&r);
}
