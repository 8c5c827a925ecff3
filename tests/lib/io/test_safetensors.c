#include "tests/test.h"

#include "io/safetensors.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A file of this header (its real length in front unless `length` is not 0) and n_data bytes 0, 1, 2, ... of data. */
static void write_raw(const char *path, const char *header, uint64_t length, size_t n_data)
{
    FILE *f = fopen(path, "wb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    if (length == 0)
        length = strlen(header);
    for (int i = 0; i < 8; i++)
        fputc((int)(length >> (8 * i) & 255), f);
    fputs(header, f);
    for (size_t i = 0; i < n_data; i++)
        fputc((int)(i & 255), f);
    fclose(f);
}

static void temporary_path(char path[32])
{
    snprintf(path, 32, "/tmp/attnd_test_XXXXXX");
    int fd = mkstemp(path);
    CU_ASSERT_FATAL(fd >= 0);
    close(fd);
}

static void what_was_written_is_read_back(void)
{
    char path[32];
    temporary_path(path);
    float a[6] = {1, -2.5f, 3e-30f, 4, 5, 6};
    uint16_t b[3] = {0x3F80, 0xC000, 0x7F80}; /* bf16: 1, -2, inf */
    uint8_t c[5] = {0, 1, 2, 254, 255};
    struct tensor tensors[] = {
        {"layer.0.weight", TENSOR_F32, 2, {2, 3}, 6, a, sizeof a},
        {"b", TENSOR_BF16, 1, {3}, 3, b, sizeof b},
        {"none", TENSOR_F64, 2, {0, 7}, 0, NULL, 0},
        {"c", TENSOR_U8, 1, {5}, 5, c, sizeof c},
    };
    const char *const metadata[] = {"format", "pt", "note", "\xC3\xA9", NULL};
    struct fault fault;
    struct safetensors *file = NULL;
    CU_ASSERT_EQUAL(safetensors_write(path, tensors, 4, metadata, &fault), 0);
    CU_ASSERT_EQUAL_FATAL(safetensors_open(&file, path, &fault), 0);
    CU_ASSERT_EQUAL(safetensors_count(file), 4);
    CU_ASSERT_STRING_EQUAL(safetensors_metadata(file, "format"), "pt");
    CU_ASSERT_STRING_EQUAL(safetensors_metadata(file, "note"), "\xC3\xA9");
    CU_ASSERT_PTR_NULL(safetensors_metadata(file, "absent"));
    CU_ASSERT_PTR_NULL(safetensors_find(file, "absent"));
    CU_ASSERT_PTR_NULL(safetensors_at(file, 4));
    for (size_t i = 0; i < 4; i++) {
        const struct tensor *t = safetensors_find(file, tensors[i].name);
        CU_ASSERT_PTR_NOT_NULL_FATAL(t);
        CU_ASSERT_EQUAL(t->type, tensors[i].type);
        CU_ASSERT_EQUAL(t->n_dims, tensors[i].n_dims);
        CU_ASSERT_EQUAL(memcmp(t->dim, tensors[i].dim, t->n_dims * sizeof *t->dim), 0);
        CU_ASSERT_EQUAL(t->n, tensors[i].n);
        CU_ASSERT(t->bytes == tensors[i].bytes && (t->bytes == 0 || memcmp(t->data, tensors[i].data, t->bytes) == 0));
    }
    safetensors_close(file);
    unlink(path);
}

static void every_type_converts_to_float_and_double(void)
{
    /* f16: 1, -2, largest, smallest subnormal, largest subnormal, infinity, -0 */
    static const uint16_t half[] = {0x3C00, 0xC000, 0x7BFF, 0x0001, 0x03FF, 0x7C00, 0x8000};
    static const double half_value[] = {1, -2, 65504, 0x1p-24, 1023 * 0x1p-24, INFINITY, -0.0};
    static const uint16_t brain[] = {0x3F80, 0xC000, 0x0001};
    static const double brain_value[] = {1, -2, 0x1p-133};
    static const float single[] = {0.1f, -1e30f};
    static const double twice[] = {0.1, -1e-300}, single_value[] = {0.1f, -1e30f};
    static const int64_t wide[] = {-3, 1ll << 40};
    static const int32_t narrow[] = {-3, 7};
    static const uint8_t byte[] = {0, 255};
    static const double wide_value[] = {-3, 1ll << 40}, narrow_value[] = {-3, 7}, byte_value[] = {0, 255};
    const struct {
        struct tensor t;
        const double *value;
    } cases[] = {
        {{"", TENSOR_F16, 1, {7}, 7, half, 14}, half_value},    {{"", TENSOR_BF16, 1, {3}, 3, brain, 6}, brain_value},
        {{"", TENSOR_F32, 1, {2}, 2, single, 8}, single_value}, {{"", TENSOR_F64, 1, {2}, 2, twice, 16}, twice},
        {{"", TENSOR_I64, 1, {2}, 2, wide, 16}, wide_value},    {{"", TENSOR_I32, 1, {2}, 2, narrow, 8}, narrow_value},
        {{"", TENSOR_U8, 1, {2}, 2, byte, 2}, byte_value},
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        unsigned char unaligned[32];
        struct tensor t = cases[k].t;
        memcpy(unaligned + 1, t.data, t.bytes); /* tensors of a file may lie anywhere */
        t.data = unaligned + 1;
        float *f;
        double *d;
        CU_ASSERT_EQUAL_FATAL(tensor_to_f32(&t, &f, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(tensor_to_f64(&t, &d, NULL), 0);
        for (size_t i = 0; i < t.n; i++) {
            CU_ASSERT(d[i] == cases[k].value[i] && signbit(d[i]) == signbit(cases[k].value[i]));
            CU_ASSERT(f[i] == (float)cases[k].value[i]);
        }
        free(f);
        free(d);
    }
    static const uint16_t nan16[] = {0x7E00};
    struct tensor t = {"", TENSOR_F16, 1, {1}, 1, nan16, 2};
    double *d;
    CU_ASSERT_EQUAL_FATAL(tensor_to_f64(&t, &d, NULL), 0);
    CU_ASSERT(isnan(d[0]));
    free(d);
}

/* Each malformed file, and words that its fault must hold. Data: 8 bytes, one F32 tensor "a" of two numbers would be right. */
static const struct {
    const char *header;
    uint64_t length;
    size_t n_data;
    int err;
    const char *words;
} bad[] = {
    {"{}", 1ull << 40, 0, ERR_MALFORMED, "does not fit"},
    {"{}", UINT64_MAX, 0, ERR_MALFORMED, "does not fit"},
    {"{\"a\":", 0, 8, ERR_MALFORMED, "header: byte"},
    {"[]", 0, 0, ERR_MALFORMED, "not a JSON object"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 0, 7, ERR_MALFORMED, "do not lie"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 0, 9, ERR_MALFORMED,
     "last 1 bytes belong to no tensor"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 0, 8, ERR_MALFORMED, "4 bytes before tensor a"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 0, 8, ERR_MALFORMED, "do not lie"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 0, 8, ERR_MALFORMED, "shape and dtype need 12"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 0, 8, ERR_MALFORMED, "shape[0]"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}", 0, 8, ERR_MALFORMED, "shape[0]"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}}", 0, 8, ERR_MALFORMED, "shape is not an array"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,8]}}", 0, 8, ERR_MALFORMED, "overflows"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387906],\"data_offsets\":[0,8]}}", 0, 8, ERR_MALFORMED, "overflow"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,2],\"data_offsets\":[0,8]}}", 0, 8, ERR_UNSUPPORTED, "9 dimensions"},
    {"{\"a\":{\"dtype\":\"C64\",\"shape\":[1],\"data_offsets\":[0,8]}}", 0, 8, ERR_UNSUPPORTED, "dtype C64"},
    {"{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,8]}}", 0, 8, ERR_MALFORMED, "dtype is not a string"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 0, 8, ERR_MALFORMED, "data_offsets are not"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,-8]}}", 0, 8, ERR_MALFORMED, "data_offsets are not"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 0, 8, ERR_MALFORMED, "data_offsets are not"},
    {"{\"a\":3}", 0, 8, ERR_MALFORMED, "not an object"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":["
     "4,8]}}",
     0, 8, ERR_MALFORMED, "duplicate"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":["
     "4,8]}}",
     0, 8, ERR_MALFORMED, "tensors a and b overlap"},
    {"{\"__metadata__\":{\"x\":1}}", 0, 0, ERR_MALFORMED, "not a string"},
    {"{\"__metadata__\":[]}", 0, 0, ERR_MALFORMED, "not an object"},
};

static void a_file_whose_header_is_wrong_is_refused_with_the_reason(void)
{
    char path[32];
    temporary_path(path);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct fault fault = {0};
        struct safetensors *file = NULL;
        write_raw(path, bad[i].header, bad[i].length, bad[i].n_data);
        int err = safetensors_open(&file, path, &fault);
        if (err != bad[i].err || !strstr(fault.text, bad[i].words))
            printf("\n%s: %s, %s", bad[i].header, err_name(err), fault.text);
        CU_ASSERT_EQUAL(err, bad[i].err);
        CU_ASSERT_PTR_NOT_NULL(strstr(fault.text, bad[i].words));
        CU_ASSERT_PTR_NULL(file);
    }
    unlink(path);
}

static void what_is_no_file_is_refused(void)
{
    struct fault fault;
    struct safetensors *file;
    CU_ASSERT_EQUAL(safetensors_open(&file, "/tmp/attnd_no_such_file", &fault), ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(safetensors_open(&file, "/tmp", &fault), ERR_IO);
    CU_ASSERT_EQUAL(safetensors_open(&file, "/dev/null", &fault), ERR_IO);
    char path[32];
    temporary_path(path);
    CU_ASSERT_EQUAL(safetensors_open(&file, path, &fault), ERR_MALFORMED);
    CU_ASSERT_PTR_NOT_NULL(strstr(fault.text, "too few"));
    unlink(path);
}

static void a_tensor_that_contradicts_itself_is_not_written(void)
{
    float a[2] = {1, 2};
    char path[32];
    temporary_path(path);
    struct tensor right = {"a", TENSOR_F32, 1, {2}, 2, a, 8}, wrong_n = right, reserved = right, twice[2] = {right, right},
                  not_utf8 = right;
    wrong_n.n = 3;
    reserved.name = "__metadata__";
    not_utf8.name = "\xFF";
    CU_ASSERT_EQUAL(safetensors_write(path, &right, 1, NULL, NULL), 0);
    CU_ASSERT_EQUAL(safetensors_write(path, &wrong_n, 1, NULL, NULL), ERR_INVALID);
    CU_ASSERT_EQUAL(safetensors_write(path, &reserved, 1, NULL, NULL), ERR_INVALID);
    CU_ASSERT_EQUAL(safetensors_write(path, &not_utf8, 1, NULL, NULL), ERR_INVALID);
    CU_ASSERT_EQUAL(safetensors_write(path, twice, 2, NULL, NULL), ERR_INVALID);
    CU_ASSERT_EQUAL(safetensors_write("/tmp/attnd_no_such_folder/x", &right, 1, NULL, NULL), ERR_IO);
    unlink(path);
}

static void the_golden_files_open(void)
{
    struct fault fault = {0};
    struct safetensors *file;
    CU_ASSERT_EQUAL_FATAL(safetensors_open(&file, GOLDEN("golden_softmax.safetensors"), &fault), 0);
    const struct tensor *logits = safetensors_find(file, "logits");
    CU_ASSERT(logits && logits->n_dims == 2 && logits->dim[0] == 200 && logits->dim[1] == 256 && logits->type == TENSOR_F32);
    safetensors_close(file);
}

TEST_SUITE("lib/io/safetensors", TEST(what_was_written_is_read_back), TEST(every_type_converts_to_float_and_double),
           TEST(a_file_whose_header_is_wrong_is_refused_with_the_reason), TEST(what_is_no_file_is_refused),
           TEST(a_tensor_that_contradicts_itself_is_not_written), TEST(the_golden_files_open))
