#include "tests/tools/support.h"

#include "base/coins.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void *support_array(size_t n, size_t element_bytes)
{
    void *array = calloc(n ? n : 1, element_bytes);
    if (!array)
        abort();
    return array;
}

void support_file(char path[SUPPORT_PATH_BYTES], const char *text)
{
    snprintf(path, SUPPORT_PATH_BYTES, "/tmp/attnd_test_XXXXXX");
    int fd = mkstemp(path);
    CU_ASSERT_FATAL(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

bool support_same(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t x, y;
        memcpy(&x, &a[i], sizeof x);
        memcpy(&y, &b[i], sizeof y);
        if (x != y)
            return false;
    }
    return true;
}

void support_fill(float *x, size_t n, double range, unsigned seed)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((2 * coin(seed, 0, i, 0) - 1) * range);
}
