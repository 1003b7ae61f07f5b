/* aws_source.c: which of the two readers; base64 in place. */
#include "server/aws/aws_source.h"

#include "proto/base.h"

enum aws_token aws_source_next(struct aws_source *s, struct aws_level *level)
{
    return s->format == AWS_JSON ? aws_json_next(s, level) : aws_cbor_next(s, level);
}

int aws_source_more(struct aws_source *s, struct aws_level *level) { return s->format == AWS_JSON ? aws_json_more(s, level) : aws_cbor_more(s, level); }

bool aws_source_key(struct aws_source *s, struct aws_text *key) { return s->format == AWS_JSON ? aws_json_key(s, key) : aws_cbor_key(s, key); }

bool aws_source_text(struct aws_source *s, struct aws_text *text)
{
    if (s->format == AWS_JSON) {
        return aws_json_text(s, text);
    }
    *text = s->text;
    return true;
}

bool aws_source_ended(struct aws_source *s) { return s->format == AWS_JSON ? aws_json_ended(s) : s->at == s->end; }

/* The usual text has no escapes and is decoded in one pass, without looking for its end first. Whatever follows the groups that could be decoded (the last one with its
 * padding, escapes, errors) is read as any text and decoded then. */
bool aws_source_blob(struct aws_source *s, struct aws_text *blob, struct aws_blob_error *error)
{
    char *start = s->format == AWS_JSON ? s->at : (char *)s->text.p;
    size_t given = s->format == AWS_JSON ? (size_t)(s->end - s->at) : s->text.n;
    char head[sizeof(error->text)]; /* as given, for the words of an error: decoding writes over it */
    size_t head_n = min_u64(given, sizeof(head));
    memcpy(head, start, head_n);

    size_t taken = base64_decode_run((uint8_t *)start, start, given);
    struct aws_text rest;
    if (s->format == AWS_JSON) {
        s->at = start + taken;
        if (!aws_json_text(s, &rest)) {
            return false;
        }
    } else {
        rest = (struct aws_text){start + taken, given - taken};
    }
    size_t out_n = 0, bad_at = 0;
    uint8_t *out = (uint8_t *)start + taken / 4 * 3;
    error->given = taken + rest.n;
    error->text_n = min_u64(error->given, head_n);
    memcpy(error->text, head, min_u64(taken, error->text_n));
    if (error->text_n > taken) {
        memcpy(error->text + taken, rest.p, error->text_n - taken);
    }
    error->error = base64_decode(out, rest.p, rest.n, &out_n, &bad_at);
    error->bad = error->error != BASE64_CHARACTER ? '\0' : rest.p[bad_at];
    *blob = (struct aws_text){start, taken / 4 * 3 + out_n};
    return true;
}
