/* vectors.c: the pure part of the Kinesis endpoint as a program, for tests/script/aws_botocore.sh.
 *
 *   sluice-aws-vectors verify   reads requests, a line per field ("method", "target", "header NAME: VALUE", "body HEX", "secret", "region", "now"), an empty line
 *                               behind each; prints "ok" or the error's name and message
 *   sluice-aws-vectors events   writes frames of the event stream: the first answer, an event, an exception
 *   sluice-aws-vectors model    prints the inputs' members: OPERATION PATH TYPE REQUIRED */
#include <stdio.h>
#include <stdlib.h>

#include "proto/base.h"
#include "server/aws/aws_event.h"
#include "server/aws/aws_signature.h"

enum { LINE = 1 << 20, HEADERS = 64 };

struct field {
    struct aws_request request;
    struct aws_header headers[HEADERS];
    char *kept[HEADERS + 8]; /* the lines that everything points into */
    unsigned n_kept;
    uint8_t body_sha256[AWS_SHA256];
    const char *secret, *region;
    int64_t now_s;
};

static struct aws_text text_of(const char *s) { return (struct aws_text){s, strlen(s)}; }

static void body_hash(struct field *f, const char *digits)
{
    size_t n = strlen(digits) / 2;
    uint8_t *body = malloc(n + 1);
    for (size_t i = 0; i < n; i++) {
        unsigned v = 0;
        sluice_assert(sscanf(digits + 2 * i, "%2x", &v) == 1);
        body[i] = (uint8_t)v;
    }
    aws_sha256(f->body_sha256, body, n);
    f->request.body_n = n;
    free(body);
}

static void field_read(struct field *f, char *line)
{
    char *value = strchr(line, ' ');
    sluice_assert(value != NULL && f->n_kept < ARRAY_LEN(f->kept));
    *value++ = '\0';
    f->kept[f->n_kept++] = line;
    if (strcmp(line, "method") == 0) {
        f->request.method = text_of(value);
    } else if (strcmp(line, "target") == 0) {
        f->request.target = text_of(value);
    } else if (strcmp(line, "secret") == 0) {
        f->secret = value;
    } else if (strcmp(line, "region") == 0) {
        f->region = value;
    } else if (strcmp(line, "now") == 0) {
        f->now_s = strtoll(value, NULL, 10);
    } else if (strcmp(line, "body") == 0) {
        body_hash(f, value);
    } else {
        char *colon = strchr(value, ':');
        sluice_assert(strcmp(line, "header") == 0 && colon != NULL && f->request.n_headers < HEADERS);
        *colon = '\0';
        f->headers[f->request.n_headers++] = (struct aws_header){text_of(value), text_of(colon + 1)};
    }
}

static void verify_one(struct field *f)
{
    struct arena arena;
    arena_init(&arena, AWS_SIGNATURE_MEMORY);
    struct aws_signature s;
    const char *message;
    f->request.headers = f->headers;
    enum aws_error e = aws_signature_parse(&f->request, &arena, &s, &message);
    if (e == AWS_E_NONE) {
        uint8_t key[AWS_SHA256];
        aws_signing_key(text_of(f->secret), s.date, s.region, s.service, key);
        struct aws_verify_options o = {.now_s = f->now_s, .region = f->region, .service = "kinesis", .key = key, .body_sha256 = f->body_sha256};
        e = aws_signature_verify(&f->request, &s, &arena, &o, &message);
    }
    if (e == AWS_E_NONE) {
        puts("ok");
    } else {
        printf("%s %s\n", aws_error_name(e), message);
    }
    arena_deinit(&arena);
    for (unsigned i = 0; i < f->n_kept; i++) {
        free(f->kept[i]);
    }
    memset(f, 0, sizeof(*f));
}

static void verify(void)
{
    struct field *f = calloc(1, sizeof(*f));
    char *line = malloc(LINE);
    while (fgets(line, LINE, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] == '\0') {
            verify_one(f);
        } else {
            field_read(f, strdup(line));
        }
    }
    free(line);
    free(f);
}

static void event_write(const struct aws_event *e, const struct iovec *payload)
{
    fwrite(e->head, 1, e->head_n, stdout);
    fwrite(payload->iov_base, 1, payload->iov_len, stdout);
    fwrite(e->tail, 1, sizeof(e->tail), stdout);
}

static void events(void)
{
    uint8_t first[AWS_EVENT_HEAD_MAX];
    size_t n = aws_event_initial_response(first, AWS_JSON);
    fwrite(first, 1, n, stdout);

    struct aws_writer w;
    aws_writer_init(&w, AWS_JSON, 1 << 20, NULL);
    aws_write_object(&w);
    aws_write_key(&w, "Records");
    aws_write_list(&w);
    aws_write_object(&w);
    aws_write_key(&w, "Data");
    aws_write_blob(&w, "\0\1\2\377", 4);
    aws_member_write_text(&w, "PartitionKey", "k\xc3\xa9\"");
    aws_member_write_text(&w, "SequenceNumber", "49646437577264581633306590769025605273108605834018947186");
    aws_member_write_time(&w, "ApproximateArrivalTimestamp", 1443104876363);
    aws_write_object_end(&w);
    aws_write_list_end(&w);
    aws_member_write_text(&w, "ContinuationSequenceNumber", "49646437577264581633306590769025605273108605834018947186");
    aws_member_write_integer(&w, "MillisBehindLatest", 0);
    aws_write_object_end(&w);
    const struct iovec *iov;
    unsigned n_iov;
    sluice_assert(aws_writer_end(&w, &iov, &n_iov, &n) == 0 && n_iov == 1);
    struct aws_event e;
    aws_event_seal(&e, AWS_JSON, "SubscribeToShardEvent", iov, n_iov);
    event_write(&e, iov);
    aws_writer_deinit(&w);

    aws_writer_init(&w, AWS_JSON, 1 << 20, NULL);
    aws_write_object(&w);
    aws_member_write_text(&w, "message", "Another subscription took over.");
    aws_write_object_end(&w);
    sluice_assert(aws_writer_end(&w, &iov, &n_iov, &n) == 0 && n_iov == 1);
    aws_event_seal_exception(&e, AWS_JSON, AWS_E_ResourceInUseException, iov, n_iov);
    event_write(&e, iov);
    aws_writer_deinit(&w);
}

static void members_print(const char *operation, const char *path, const struct aws_shape *shape)
{
    static const char *const types[] = {"string", "blob", "integer", "long", "double", "boolean", "timestamp", "list", "map", "structure"};
    for (unsigned i = 0; i < shape->n_members; i++) {
        const struct aws_member *m = &shape->members[i];
        char inner[256];
        snprintf(inner, sizeof(inner), "%s.%s", path, aws_member_names[m->id]);
        printf("%s %s %s %s\n", operation, inner, types[m->shape->type], m->required ? "required" : "optional");
        members_print(operation, inner, m->shape->type == AWS_LIST ? m->shape->item : m->shape);
    }
}

int main(int argc, char **argv)
{
    const char *what = argc == 2 ? argv[1] : "";
    if (strcmp(what, "verify") == 0) {
        verify();
    } else if (strcmp(what, "events") == 0) {
        events();
    } else if (strcmp(what, "model") == 0) {
        for (int i = 0; i < AWS_OPERATION_COUNT; i++) {
            printf("%s - operation -\n", aws_operations[i].name);
            members_print(aws_operations[i].name, "", aws_operations[i].input);
        }
    } else {
        fputs("usage: sluice-aws-vectors verify|events|model\n", stderr);
        return 2;
    }
    return 0;
}
