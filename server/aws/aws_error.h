/* aws_error.h: the errors of the Kinesis endpoint: names, HTTP status, bodies. */
#ifndef SLUICE_AWS_ERROR_H
#define SLUICE_AWS_ERROR_H

#include "server/aws/aws_writer.h"

/* The exceptions of the service model, then those that AWS gives for any service. */
#define AWS_ERRORS(X) \
    /* name, HTTP status */ \
    X(AccessDeniedException, 400) \
    X(DryRunOperationException, 400) \
    X(ExpiredIteratorException, 400) \
    X(ExpiredNextTokenException, 400) \
    X(InternalFailureException, 500) \
    X(InvalidArgumentException, 400) \
    X(KMSAccessDeniedException, 400) \
    X(KMSDisabledException, 400) \
    X(KMSInvalidStateException, 400) \
    X(KMSNotFoundException, 400) \
    X(KMSOptInRequired, 400) \
    X(KMSThrottlingException, 400) \
    X(LimitExceededException, 400) \
    X(ProvisionedThroughputExceededException, 400) \
    X(ResourceInUseException, 400) \
    X(ResourceNotFoundException, 400) \
    X(ValidationException, 400) \
    X(SerializationException, 400) \
    X(UnknownOperationException, 400) \
    X(MissingAuthenticationTokenException, 400) \
    X(IncompleteSignatureException, 400) \
    X(InvalidSignatureException, 400) \
    X(UnrecognizedClientException, 400) \
    X(InternalFailure, 500) \
    X(ServiceUnavailable, 503)

enum aws_error {
    AWS_E_NONE,
#define X(name, status) AWS_E_##name,
    AWS_ERRORS(X)
#undef X
    AWS_ERROR_COUNT
};

const char *aws_error_name(enum aws_error e);
unsigned aws_error_status(enum aws_error e);

/* The whole body: {"__type": name, "message": message}; the member is `Message` with SerializationException and not written if message is NULL. */
void aws_write_error(struct aws_writer *w, enum aws_error e, const char *message);

#endif
