/* h2_impl.h: what h2.c (receiving) and h2_out.c (sending) share. */
#ifndef SLUICE_HTTP_H2_IMPL_H
#define SLUICE_HTTP_H2_IMPL_H

#include <nghttp2/nghttp2.h>

#include "server/http/http_impl.h"

void h2_fill(struct conn *c);
void h2_answer(struct request *r, const struct http_answer_head *head, struct out_body *body);
void h2_stream_begin(struct request *r, const struct http_answer_head *head);
void h2_stream_write(struct request *r, struct out_body *body);
void h2_stream_end(struct request *r);
void h2_stream_reset(struct request *r);
int h2_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *framehd, size_t length, nghttp2_data_source *source, void *user);
/* Answers what is not handed out. */
void h2_refuse(struct request *r, int status);
void h2_continue(struct request *r);
/* Does the peer not open its window? Moves the period on. */
bool h2_reader_stalls(struct request *r, uint64_t now_ms);
/* A GOAWAY frame behind what is gathered, past nghttp2, whose session may be beyond use. */
void h2_goaway(struct conn *c, uint32_t error);

#endif
