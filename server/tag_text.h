/* tag_text.h: what tags and policies may look like. Pure. */
#ifndef SLUICE_TAG_TEXT_H
#define SLUICE_TAG_TEXT_H

#include <stdbool.h>

/* 1 to 128 characters of UTF-8, all of them Unicode letters, digits, white space or _ . : / = + - % @, not beginning with "aws:". */
bool tag_key_ok(const char *key);
/* 0 to 256 such characters. */
bool tag_value_ok(const char *value);
/* A JSON object of at most POLICY_BYTES. */
bool policy_ok(const char *policy);

#endif
