/* aws_value.c: reading decoded inputs. */
#include "server/aws/aws_value.h"

#include "proto/base.h"

const struct aws_value *aws_member(const struct aws_value *structure, enum aws_member_id id)
{
    if (structure == NULL) {
        return NULL;
    }
    const struct aws_shape *shape = structure->shape;
    sluice_assert(shape != NULL && shape->type == AWS_STRUCTURE);
    for (unsigned i = 0; i < shape->n_members; i++) {
        if (shape->members[i].id == id) {
            return structure->list.v[i].shape != NULL ? &structure->list.v[i] : NULL;
        }
    }
    return NULL;
}

struct aws_text aws_member_text(const struct aws_value *structure, enum aws_member_id id)
{
    const struct aws_value *v = aws_member(structure, id);
    sluice_assert(v == NULL || v->shape->type == AWS_STRING || v->shape->type == AWS_BLOB);
    return v != NULL ? v->text : (struct aws_text){NULL, 0};
}

int64_t aws_member_integer(const struct aws_value *structure, enum aws_member_id id, int64_t absent)
{
    const struct aws_value *v = aws_member(structure, id);
    sluice_assert(v == NULL || v->shape->type == AWS_INTEGER || v->shape->type == AWS_LONG || v->shape->type == AWS_TIMESTAMP);
    return v != NULL ? v->integer : absent;
}

bool aws_member_boolean(const struct aws_value *structure, enum aws_member_id id, bool absent)
{
    const struct aws_value *v = aws_member(structure, id);
    sluice_assert(v == NULL || v->shape->type == AWS_BOOLEAN);
    return v != NULL ? v->boolean : absent;
}

bool aws_text_is(struct aws_text text, const char *word) { return text.p != NULL && strlen(word) == text.n && memcmp(text.p, word, text.n) == 0; }
