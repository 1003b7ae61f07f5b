/* aws_error.c: the errors of the Kinesis endpoint. */
#include "server/aws/aws_error.h"

#include "proto/base.h"

static const struct {
    const char *name;
    unsigned status;
} errors[AWS_ERROR_COUNT] = {
#define X(error, http) [AWS_E_##error] = {#error, http},
    AWS_ERRORS(X)
#undef X
};

const char *aws_error_name(enum aws_error e)
{
    sluice_assert(e > AWS_E_NONE && e < AWS_ERROR_COUNT);
    return errors[e].name;
}

unsigned aws_error_status(enum aws_error e)
{
    sluice_assert(e > AWS_E_NONE && e < AWS_ERROR_COUNT);
    return errors[e].status;
}

void aws_write_error(struct aws_writer *w, enum aws_error e, const char *message)
{
    aws_write_object(w);
    aws_member_write_text(w, "__type", aws_error_name(e));
    aws_member_write_text(w, e == AWS_E_SerializationException ? "Message" : "message", message);
    aws_write_object_end(w);
}
