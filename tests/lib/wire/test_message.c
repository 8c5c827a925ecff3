#include "tests/test.h"

#include "wire/message.h"

#include <stdlib.h>
#include <string.h>

enum { N_PARTS = 3, FRAME_BYTES = WIRE_HEADER_BYTES + N_PARTS * WIRE_PART_BYTES };

static struct wire_header header_of(enum wire_type type)
{
    return (struct wire_header){.type = type,
                                .n_parts = type == WIRE_OUTPUT ? 1 : N_PARTS,
                                .layer = 0x01020304,
                                .frames = type == WIRE_REQUEST ? 0
                                          : type == WIRE_REPLY ? 7
                                                               : 1,
                                .credit = type == WIRE_REPLY ? 0x61626364 : 0,
                                .id = 0x1112131415161718};
}

static void parts_of(enum wire_type type, struct wire_part parts[N_PARTS])
{
    static const uint16_t flags[N_PARTS] = {WIRE_APPEND, WIRE_APPEND | WIRE_ATTEND | WIRE_PARTIAL, WIRE_APPEND | WIRE_OBSERVE};
    for (size_t i = 0; i < N_PARTS; i++)
        parts[i] = (struct wire_part){.stream = 0x2122232425262728 + i,
                                      .first_token = 0x3132333435363738 + i,
                                      .position = 0x4142434445464748 + i,
                                      .n_tokens = (uint32_t)(0x51525354 + i),
                                      .flags = flags[i],
                                      .status = type == WIRE_REPLY ? wire_status(ERR_BUSY) : 0};
}

static size_t build(enum wire_type type, unsigned char *frame)
{
    struct wire_header header = header_of(type);
    struct wire_part parts[N_PARTS];
    parts_of(type, parts);
    wire_encode(&header, parts, frame);
    return wire_encoded_bytes(header.n_parts);
}

static int decode(const unsigned char *frame, size_t bytes)
{
    struct wire_header header;
    struct wire_part parts[N_PARTS];
    return wire_decode(frame, bytes, &header, parts, N_PARTS, NULL);
}

static void what_is_encoded_decodes_to_the_same(void)
{
    for (enum wire_type type = WIRE_REQUEST; type <= WIRE_OUTPUT; type++) {
        unsigned char frame[FRAME_BYTES];
        size_t bytes = build(type, frame);
        struct wire_header header, expected = header_of(type);
        struct wire_part parts[N_PARTS], expected_parts[N_PARTS];
        parts_of(type, expected_parts);
        CU_ASSERT_EQUAL_FATAL(wire_decode(frame, bytes, &header, parts, N_PARTS, NULL), 0);
        CU_ASSERT_EQUAL(header.type, expected.type);
        CU_ASSERT_EQUAL(header.n_parts, expected.n_parts);
        CU_ASSERT_EQUAL(header.layer, expected.layer);
        CU_ASSERT_EQUAL(header.credit, expected.credit);
        CU_ASSERT_EQUAL(header.frames, expected.frames);
        CU_ASSERT_EQUAL(header.id, expected.id);
        for (size_t i = 0; i < header.n_parts; i++) {
            CU_ASSERT_EQUAL(parts[i].stream, expected_parts[i].stream);
            CU_ASSERT_EQUAL(parts[i].first_token, expected_parts[i].first_token);
            CU_ASSERT_EQUAL(parts[i].position, expected_parts[i].position);
            CU_ASSERT_EQUAL(parts[i].n_tokens, expected_parts[i].n_tokens);
            CU_ASSERT_EQUAL(parts[i].flags, expected_parts[i].flags);
            CU_ASSERT_EQUAL(parts[i].status, expected_parts[i].status);
        }
    }
}

static void a_frame_cut_or_extended_anywhere_is_refused(void)
{
    unsigned char frame[FRAME_BYTES + 1] = {0};
    size_t bytes = build(WIRE_REQUEST, frame);
    for (size_t n = 0; n <= bytes + 1; n++) {
        unsigned char *exact = malloc(n + !n); /* on the heap, so that the address sanitizer sees a read past the end */
        CU_ASSERT_PTR_NOT_NULL_FATAL(exact);
        memcpy(exact, frame, n);
        CU_ASSERT_EQUAL(decode(exact, n), n == bytes ? 0 : ERR_MALFORMED);
        free(exact);
    }
}

static void every_reserved_bit_is_refused(void)
{
    static const struct {
        size_t byte, bytes;
        uint64_t reserved; /* bits of a little-endian number there */
    } fields[] = {
        {6, 2, 0xffff},
        {28, 4, 0xffffffff},
        {WIRE_HEADER_BYTES + 28, 2, 0xfff0},                       /* flags of the first part */
        {WIRE_HEADER_BYTES + 2 * WIRE_PART_BYTES + 28, 2, 0xfff0}, /* and of the last */
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        for (size_t bit = 0; bit < 8 * fields[i].bytes; bit++) {
            unsigned char frame[FRAME_BYTES];
            size_t bytes = build(WIRE_REQUEST, frame);
            if (!(fields[i].reserved >> bit & 1))
                continue;
            frame[fields[i].byte + bit / 8] ^= (unsigned char)(1u << bit % 8);
            CU_ASSERT_EQUAL(decode(frame, bytes), ERR_MALFORMED);
        }
}

static void frames_bits_belong_to_their_types(void)
{
    for (enum wire_type type = WIRE_REQUEST; type <= WIRE_OUTPUT; type++)
        for (size_t bit = 0; bit < 32; bit++) {
            unsigned char frame[FRAME_BYTES];
            size_t bytes = build(type, frame);
            uint32_t frames = 1u << bit;
            for (size_t i = 0; i < 4; i++)
                frame[24 + i] = (unsigned char)(frames >> 8 * i);
            int good = type == WIRE_REPLY ? bit < 3 : type == WIRE_OUTPUT && bit == 0;
            CU_ASSERT_EQUAL(decode(frame, bytes), good ? 0 : ERR_MALFORMED);
        }
}

static void only_the_magic_version_and_types_of_the_layout_are_read(void)
{
    unsigned char frame[FRAME_BYTES];
    for (size_t i = 0; i < 4; i++) {
        size_t bytes = build(WIRE_REQUEST, frame);
        frame[i] ^= 0x20;
        CU_ASSERT_EQUAL(decode(frame, bytes), ERR_MALFORMED);
    }
    for (unsigned x = 0; x < 256; x++) {
        size_t bytes = build(WIRE_REQUEST, frame);
        frame[4] = (unsigned char)x;
        CU_ASSERT_EQUAL(decode(frame, bytes), x == WIRE_VERSION ? 0 : ERR_VERSION);
        build(WIRE_REPLY, frame);
        memset(frame + 24, 0, 4);
        frame[5] = (unsigned char)x;
        if (x != WIRE_REQUEST) /* whose parts have no status */
            CU_ASSERT_EQUAL(decode(frame, bytes), x == WIRE_REPLY ? 0 : ERR_MALFORMED);
    }
}

static void the_number_of_parts_is_bounded_before_anything_is_read(void)
{
    static const uint32_t wrong[] = {0, 1, 2, 4, WIRE_PARTS_MAX, WIRE_PARTS_MAX + 1, 0x08000000, 0x07fffffd, 0xffffffff};
    unsigned char frame[FRAME_BYTES];
    size_t bytes = build(WIRE_REQUEST, frame);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        memcpy(frame + 8, &wrong[i], 4); /* little endian hosts only, as all that this is built for */
        CU_ASSERT_EQUAL(decode(frame, bytes), ERR_MALFORMED);
    }
}

static void more_parts_than_there_is_room_for_are_too_large(void)
{
    size_t bytes = wire_encoded_bytes(WIRE_PARTS_MAX + 1);
    unsigned char *frame = calloc(1, bytes);
    struct wire_part *parts = calloc(WIRE_PARTS_MAX + 1, sizeof *parts);
    CU_ASSERT_FATAL(frame && parts);
    for (size_t i = 0; i <= WIRE_PARTS_MAX; i++)
        parts[i] = (struct wire_part){.n_tokens = 1, .flags = WIRE_ATTEND};
    struct wire_header header = {.type = WIRE_REQUEST, .n_parts = WIRE_PARTS_MAX + 1};
    wire_encode(&header, parts, frame);
    CU_ASSERT_EQUAL(wire_decode(frame, bytes, &header, parts, WIRE_PARTS_MAX + 1, NULL), ERR_TOO_LARGE);

    header = (struct wire_header){.type = WIRE_REQUEST, .n_parts = WIRE_PARTS_MAX};
    wire_encode(&header, parts, frame);
    bytes = wire_encoded_bytes(WIRE_PARTS_MAX);
    CU_ASSERT_EQUAL(wire_decode(frame, bytes, &header, parts, WIRE_PARTS_MAX - 1, NULL), ERR_TOO_LARGE);
    CU_ASSERT_EQUAL(wire_decode(frame, bytes, &header, parts, WIRE_PARTS_MAX, NULL), 0);
    free(frame);
    free(parts);
}

static int decode_part(enum wire_type type, struct wire_part part)
{
    unsigned char frame[WIRE_HEADER_BYTES + WIRE_PART_BYTES];
    struct wire_header header = {.type = type, .n_parts = 1, .frames = type == WIRE_OUTPUT};
    wire_encode(&header, &part, frame);
    return decode(frame, sizeof frame);
}

static void flags_of_a_request_must_make_sense_together(void)
{
    for (uint16_t flags = 0; flags < 16; flags++) {
        int good = flags & (WIRE_APPEND | WIRE_ATTEND | WIRE_OBSERVE) && !(flags & WIRE_PARTIAL && !(flags & WIRE_ATTEND)) &&
                   !(flags & WIRE_OBSERVE && flags & WIRE_ATTEND);
        CU_ASSERT_EQUAL(decode_part(WIRE_REQUEST, (struct wire_part){.n_tokens = 1, .flags = flags}), good ? 0 : ERR_MALFORMED);
    }
}

static void a_request_has_tokens_and_no_status(void)
{
    CU_ASSERT_EQUAL(decode_part(WIRE_REQUEST, (struct wire_part){.n_tokens = 0, .flags = WIRE_APPEND}), ERR_MALFORMED);
    CU_ASSERT_EQUAL(decode_part(WIRE_REPLY, (struct wire_part){.n_tokens = 0, .flags = WIRE_APPEND}), 0);
    for (unsigned bit = 0; bit < 16; bit++)
        CU_ASSERT_EQUAL(
            decode_part(WIRE_REQUEST, (struct wire_part){.n_tokens = 1, .flags = WIRE_APPEND, .status = (uint16_t)(1u << bit)}),
            ERR_MALFORMED);
}

static void indices_that_wrap_are_refused(void)
{
    const uint64_t max = INT64_MAX;
    static const enum wire_type types[] = {WIRE_REQUEST, WIRE_REPLY};
    for (size_t i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL(decode_part(types[i], (struct wire_part){.first_token = max - 1, .n_tokens = 1, .flags = 1}), 0);
        CU_ASSERT_EQUAL(decode_part(types[i], (struct wire_part){.first_token = max, .n_tokens = 1, .flags = 1}),
                        ERR_MALFORMED);
        CU_ASSERT_EQUAL(decode_part(types[i], (struct wire_part){.first_token = UINT64_MAX, .n_tokens = 1, .flags = 1}),
                        ERR_MALFORMED);
        CU_ASSERT_EQUAL(decode_part(types[i], (struct wire_part){.first_token = max - 1, .n_tokens = UINT32_MAX, .flags = 1}),
                        ERR_MALFORMED);
        CU_ASSERT_EQUAL(decode_part(types[i], (struct wire_part){.position = max, .n_tokens = 1, .flags = 1}), 0);
        CU_ASSERT_EQUAL(decode_part(types[i], (struct wire_part){.position = max + 1, .n_tokens = 1, .flags = 1}),
                        ERR_MALFORMED);
    }
}

static void a_refusal_can_name_the_message(void)
{
    unsigned char frame[FRAME_BYTES];
    struct wire_header header;
    struct wire_part parts[N_PARTS];
    struct fault fault;
    size_t bytes = build(WIRE_REQUEST, frame);
    frame[6] = 1;
    CU_ASSERT_EQUAL(wire_decode(frame, bytes, &header, parts, N_PARTS, &fault), ERR_MALFORMED);
    CU_ASSERT_EQUAL(header.id, header_of(WIRE_REQUEST).id);
    CU_ASSERT_EQUAL(fault.err, ERR_MALFORMED);
    CU_ASSERT_PTR_NOT_NULL(strstr(fault.text, "bytes 6 and 7"));
    frame[0] = 'X';
    CU_ASSERT_EQUAL(wire_decode(frame, bytes, &header, parts, N_PARTS, &fault), ERR_MALFORMED);
    CU_ASSERT_EQUAL(header.id, 0);
}

static void a_reply_without_parts_refuses_a_whole_message(void)
{
    unsigned char frame[WIRE_HEADER_BYTES];
    struct wire_header header = {.type = WIRE_REPLY, .id = 9, .frames = WIRE_HAS_FAULTS};
    wire_encode(&header, NULL, frame);
    CU_ASSERT_EQUAL(wire_decode(frame, sizeof frame, &header, NULL, 0, NULL), 0);
    CU_ASSERT_EQUAL(header.id, 9);
    CU_ASSERT_EQUAL(header.n_parts, 0);
}

static void an_output_has_exactly_one_part(void)
{
    unsigned char frame[FRAME_BYTES];
    struct wire_header header = header_of(WIRE_OUTPUT);
    struct wire_part parts[N_PARTS];
    parts_of(WIRE_OUTPUT, parts);
    header.n_parts = 2;
    wire_encode(&header, parts, frame);
    CU_ASSERT_EQUAL(decode(frame, wire_encoded_bytes(2)), ERR_MALFORMED);
}

static void every_error_has_its_own_number(void)
{
    unsigned char seen[64] = {0};
    size_t n = 0;
#define ASSERT_NUMBER(name, wire, sentence, advice)                                                                            \
    {                                                                                                                          \
        uint16_t status = wire_status(ERR_##name);                                                                             \
        CU_ASSERT_FATAL(status > 0 && status < sizeof seen);                                                                   \
        CU_ASSERT_EQUAL(seen[status], 0);                                                                                      \
        seen[status] = 1;                                                                                                      \
        CU_ASSERT_EQUAL(wire_status_err(status), ERR_##name);                                                                  \
        n++;                                                                                                                   \
    }
    ERR_LIST(ASSERT_NUMBER)
#undef ASSERT_NUMBER
    CU_ASSERT_TRUE(n > 20);
    CU_ASSERT_EQUAL(wire_status(0), 0);
    CU_ASSERT_EQUAL(wire_status_err(0), 0);
    CU_ASSERT_EQUAL(wire_status_err(65535), ERR_INVALID);
    CU_ASSERT_EQUAL(wire_status(-1), wire_status(ERR_INVALID));
}

static void numbers_on_the_wire_never_change(void)
{
    CU_ASSERT_EQUAL(wire_status(ERR_NO_MEMORY), 1);
    CU_ASSERT_EQUAL(wire_status(ERR_WRONG_INDEX), 8);
    CU_ASSERT_EQUAL(wire_status(ERR_BUSY), 14);
    CU_ASSERT_EQUAL(wire_status(ERR_NOT_OWNER), 23);
}

TEST_SUITE("lib/wire/message", TEST(what_is_encoded_decodes_to_the_same), TEST(a_frame_cut_or_extended_anywhere_is_refused),
           TEST(every_reserved_bit_is_refused), TEST(frames_bits_belong_to_their_types),
           TEST(only_the_magic_version_and_types_of_the_layout_are_read),
           TEST(the_number_of_parts_is_bounded_before_anything_is_read), TEST(more_parts_than_there_is_room_for_are_too_large),
           TEST(flags_of_a_request_must_make_sense_together), TEST(a_request_has_tokens_and_no_status),
           TEST(indices_that_wrap_are_refused), TEST(a_refusal_can_name_the_message),
           TEST(a_reply_without_parts_refuses_a_whole_message), TEST(an_output_has_exactly_one_part),
           TEST(every_error_has_its_own_number), TEST(numbers_on_the_wire_never_change))
