/* aws_time.h: the times that stand in requests and errors, without the C library's calendar, which keeps state. Seconds since 1970, UTC. */
#ifndef SLUICE_AWS_TIME_H
#define SLUICE_AWS_TIME_H

#include "server/aws/aws_value.h"

/* "20150830T123600Z", or as a Date header has it, "Sun, 30 Aug 2015 12:36:00 GMT". False: neither. */
bool aws_time_parse(struct aws_text text, int64_t *seconds);
enum { AWS_TIME_BASIC_SIZE = 17, AWS_TIME_LONG_SIZE = 32 };
/* "20150830T123600Z". Years 0 to 9999; what lies outside is cut off. */
void aws_time_basic(char out[AWS_TIME_BASIC_SIZE], int64_t seconds);
/* "Sun Aug 30 12:36:00 UTC 2015", as Java writes it. */
void aws_time_long(char out[AWS_TIME_LONG_SIZE], int64_t seconds);
/* "Sun, 30 Aug 2015 12:36:00 GMT", for Date headers. */
void aws_time_http(char out[AWS_TIME_LONG_SIZE], int64_t seconds);

#endif
