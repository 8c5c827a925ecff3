#include "wire/message.h"

#include <string.h>

enum {
    FLAGS_KNOWN = WIRE_APPEND | WIRE_ATTEND | WIRE_PARTIAL | WIRE_OBSERVE,
    FRAMES_KNOWN = WIRE_HAS_OUTPUTS | WIRE_HAS_LSE | WIRE_HAS_FAULTS,
};

/* Token indices stay below 2^63, so that first_token + n_tokens never wraps and JSON readers with signed integers can hold them. */
#define INDEX_MAX ((uint64_t)INT64_MAX)

/* Written out here and not derived from the order of ERR_LIST: the order may change, a number on the wire may not. */
static const struct {
    int err;
    uint16_t status;
} statuses[] = {
    {0, 0},
    {ERR_NO_MEMORY, 1},
    {ERR_INVALID, 2},
    {ERR_UNSUPPORTED, 3},
    {ERR_MALFORMED, 4},
    {ERR_VERSION, 5},
    {ERR_TOO_LARGE, 6},
    {ERR_WRONG_SHAPE, 7},
    {ERR_WRONG_INDEX, 8},
    {ERR_UNKNOWN_STREAM, 9},
    {ERR_UNKNOWN_PROFILE, 10},
    {ERR_EXISTS, 11},
    {ERR_NOT_FINITE, 12},
    {ERR_OVERFLOW, 13},
    {ERR_BUSY, 14},
    {ERR_NOT_KEPT, 15},
    {ERR_NEEDS_QUERIES, 16},
    {ERR_FAILED, 17},
    {ERR_CLOSING, 18},
    {ERR_IO, 19},
    {ERR_NOT_FOUND, 20},
    {ERR_TIMEOUT, 21},
    {ERR_GAP, 22},
    {ERR_NOT_OWNER, 23},
};

enum { N_STATUSES = sizeof statuses / sizeof *statuses };

#define ONE_MORE(name, wire, sentence, advice) +1
_Static_assert(N_STATUSES == 1 ERR_LIST(ONE_MORE), "every error needs a number on the wire");
#undef ONE_MORE

uint16_t wire_status(int err)
{
    for (size_t i = 0; i < N_STATUSES; i++)
        if (statuses[i].err == err)
            return statuses[i].status;
    return wire_status(ERR_INVALID);
}

int wire_status_err(uint16_t status)
{
    for (size_t i = 0; i < N_STATUSES; i++)
        if (statuses[i].status == status)
            return statuses[i].err;
    return ERR_INVALID;
}

/* Byte by byte, so that any host and any alignment reads the same; compilers make single loads and stores of these. */
static uint64_t load(const unsigned char *at, size_t bytes)
{
    uint64_t x = 0;
    for (size_t i = 0; i < bytes; i++)
        x |= (uint64_t)at[i] << (8 * i);
    return x;
}

static void store(unsigned char *at, size_t bytes, uint64_t x)
{
    for (size_t i = 0; i < bytes; i++)
        at[i] = (unsigned char)(x >> (8 * i));
}

static int check_request_part(const struct wire_part *part, size_t i, struct fault *fault)
{
    unsigned flags = part->flags;
    if (!(flags & (WIRE_APPEND | WIRE_ATTEND | WIRE_OBSERVE)))
        return fault_set(fault, ERR_MALFORMED, "part %zu: flags %u neither append, attend nor observe", i, flags);
    if ((flags & WIRE_PARTIAL) && !(flags & WIRE_ATTEND))
        return fault_set(fault, ERR_MALFORMED, "part %zu: the partial flag needs attend", i);
    if ((flags & WIRE_OBSERVE) && (flags & WIRE_ATTEND))
        return fault_set(fault, ERR_MALFORMED,
                         "part %zu: observe asks for no output, attend for one; append with attend is observed anyway", i);
    if (part->status != 0)
        return fault_set(fault, ERR_MALFORMED, "part %zu: status is %u in a request, must be 0", i, part->status);
    if (part->n_tokens == 0)
        return fault_set(fault, ERR_MALFORMED, "part %zu: n_tokens is 0", i);
    return 0;
}

static int check_part(enum wire_type type, const struct wire_part *part, size_t i, struct fault *fault)
{
    if (part->flags & ~FLAGS_KNOWN)
        return fault_set(fault, ERR_MALFORMED, "part %zu: reserved bits are set in flags %u", i, part->flags);
    if (part->first_token > INDEX_MAX - part->n_tokens)
        return fault_set(fault, ERR_MALFORMED, "part %zu: first_token + n_tokens is beyond 2^63 - 1", i);
    if (part->position > INDEX_MAX)
        return fault_set(fault, ERR_MALFORMED, "part %zu: position is beyond 2^63 - 1", i);
    return type == WIRE_REQUEST ? check_request_part(part, i, fault) : 0;
}

static int check_header(const unsigned char *at, struct wire_header *header, size_t bytes, size_t max_parts,
                        struct fault *fault)
{
    if (at[5] < WIRE_REQUEST || at[5] > WIRE_OUTPUT)
        return fault_set(fault, ERR_MALFORMED, "type at byte 5 is %u, must be 1, 2 or 3", at[5]);
    header->type = (enum wire_type)at[5];
    if (load(at + 6, 2) != 0)
        return fault_set(fault, ERR_MALFORMED, "bytes 6 and 7 must be 0");
    header->credit = (uint32_t)load(at + 28, 4);
    if (header->credit != 0 && header->type != WIRE_REPLY)
        return fault_set(fault, ERR_MALFORMED, "bytes 28 to 31 must be 0");

    /* A reply without parts refuses the whole message; see README.md. */
    header->n_parts = (uint32_t)load(at + 8, 4);
    if (header->n_parts == 0 && header->type != WIRE_REPLY)
        return fault_set(fault, ERR_MALFORMED, "n_parts is 0");
    if (header->n_parts > 1 && header->type == WIRE_OUTPUT)
        return fault_set(fault, ERR_MALFORMED, "n_parts is %u, an output has one part", header->n_parts);
    if (bytes != wire_encoded_bytes(header->n_parts))
        return fault_set(fault, ERR_MALFORMED, "frame 0 has %zu bytes, %u parts need %zu", bytes, header->n_parts,
                         wire_encoded_bytes(header->n_parts));
    if (header->n_parts > max_parts || header->n_parts > WIRE_PARTS_MAX)
        return fault_set(fault, ERR_TOO_LARGE, "n_parts is %u, at most %zu are taken", header->n_parts,
                         max_parts < WIRE_PARTS_MAX ? max_parts : (size_t)WIRE_PARTS_MAX);

    header->layer = (uint32_t)load(at + 12, 4);
    header->frames = (uint32_t)load(at + 24, 4);
    uint32_t allowed = header->type == WIRE_REPLY ? FRAMES_KNOWN : header->type == WIRE_OUTPUT ? WIRE_HAS_OUTPUTS : 0;
    if (header->frames & ~allowed)
        return fault_set(fault, ERR_MALFORMED, "reserved bits are set in frames %u", header->frames);
    if (header->type == WIRE_OUTPUT && header->frames != WIRE_HAS_OUTPUTS)
        return fault_set(fault, ERR_MALFORMED, "an output has frames %u, must be 1", header->frames);
    return 0;
}

int wire_decode(const void *frame, size_t bytes, struct wire_header *header, struct wire_part *parts, size_t max_parts,
                struct fault *fault)
{
    const unsigned char *at = frame;
    memset(header, 0, sizeof *header);
    if (bytes < WIRE_HEADER_BYTES)
        return fault_set(fault, ERR_MALFORMED, "frame 0 has %zu bytes, the header alone has %d", bytes, WIRE_HEADER_BYTES);
    if (load(at, 4) != WIRE_MAGIC)
        return fault_set(fault, ERR_MALFORMED, "the first four bytes are not ATND");
    header->id = load(at + 16, 8); /* now, so that a refusal can name it */
    if (at[4] != WIRE_VERSION)
        return fault_set(fault, ERR_VERSION, "version %u is not spoken here, %d is", at[4], WIRE_VERSION);
    int err = check_header(at, header, bytes, max_parts, fault);
    if (err)
        return err;

    at += WIRE_HEADER_BYTES;
    for (size_t i = 0; i < header->n_parts; i++, at += WIRE_PART_BYTES) {
        parts[i] = (struct wire_part){
            .stream = load(at, 8),
            .first_token = load(at + 8, 8),
            .position = load(at + 16, 8),
            .n_tokens = (uint32_t)load(at + 24, 4),
            .flags = (uint16_t)load(at + 28, 2),
            .status = (uint16_t)load(at + 30, 2),
        };
        err = check_part(header->type, &parts[i], i, fault);
        if (err)
            return err;
    }
    return 0;
}

size_t wire_encoded_bytes(size_t n_parts)
{
    return WIRE_HEADER_BYTES + n_parts * WIRE_PART_BYTES;
}

void wire_encode(const struct wire_header *header, const struct wire_part *parts, void *frame)
{
    unsigned char *at = frame;
    store(at, 4, WIRE_MAGIC);
    at[4] = WIRE_VERSION;
    at[5] = (unsigned char)header->type;
    store(at + 6, 2, 0);
    store(at + 8, 4, header->n_parts);
    store(at + 12, 4, header->layer);
    store(at + 16, 8, header->id);
    store(at + 24, 4, header->frames);
    store(at + 28, 4, header->credit);
    at += WIRE_HEADER_BYTES;
    for (size_t i = 0; i < header->n_parts; i++, at += WIRE_PART_BYTES) {
        store(at, 8, parts[i].stream);
        store(at + 8, 8, parts[i].first_token);
        store(at + 16, 8, parts[i].position);
        store(at + 24, 4, parts[i].n_tokens);
        store(at + 28, 2, parts[i].flags);
        store(at + 30, 2, parts[i].status);
    }
}
