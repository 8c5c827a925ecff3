#include "base/runtime.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Sets XDG_RUNTIME_DIR for one test and puts the old value back. */
static char *saved;
static void set_xdg(const char *value)
{
    const char *old = getenv("XDG_RUNTIME_DIR");
    free(saved);
    saved = old ? strdup(old) : NULL;
    if (value)
        setenv("XDG_RUNTIME_DIR", value, 1);
    else
        unsetenv("XDG_RUNTIME_DIR");
}
static void restore_xdg(void)
{
    if (saved)
        setenv("XDG_RUNTIME_DIR", saved, 1);
    else
        unsetenv("XDG_RUNTIME_DIR");
    free(saved);
    saved = NULL;
}

static void the_folder_follows_xdg_and_falls_back_to_tmp(void)
{
    char path[128], fallback[128];
    set_xdg("/run/user/7");
    CU_ASSERT_EQUAL(runtime_folder(path, sizeof path), 0);
    CU_ASSERT_STRING_EQUAL(path, "/run/user/7/attnd");
    restore_xdg();
    snprintf(fallback, sizeof fallback, "/tmp/attnd-%lu", (unsigned long)geteuid());
    set_xdg(NULL);
    CU_ASSERT_EQUAL(runtime_folder(path, sizeof path), 0);
    CU_ASSERT_STRING_EQUAL(path, fallback);
    restore_xdg();
    set_xdg("relative/is/ignored");
    CU_ASSERT_EQUAL(runtime_folder(path, sizeof path), 0);
    CU_ASSERT_STRING_EQUAL(path, fallback);
    restore_xdg();
}

static void the_placeholder_is_replaced_everywhere_and_nothing_else(void)
{
    char out[128];
    set_xdg("/r");
    CU_ASSERT_EQUAL(runtime_expand("ipc://${runtime}/a.sock", out, sizeof out), 0);
    CU_ASSERT_STRING_EQUAL(out, "ipc:///r/attnd/a.sock");
    CU_ASSERT_EQUAL(runtime_expand("${runtime}${runtime}$x${run", out, sizeof out), 0);
    CU_ASSERT_STRING_EQUAL(out, "/r/attnd/r/attnd$x${run");
    CU_ASSERT_EQUAL(runtime_expand("", out, sizeof out), 0);
    CU_ASSERT_STRING_EQUAL(out, "");
    CU_ASSERT_EQUAL(runtime_ingest(out, sizeof out), 0);
    CU_ASSERT_STRING_EQUAL(out, "ipc:///r/attnd/ingest.sock");
    restore_xdg();
}

static void what_does_not_fit_is_refused_to_the_byte(void)
{
    char out[10];
    set_xdg("/r"); /* "/r/attnd": 8 bytes */
    CU_ASSERT_EQUAL(runtime_expand("${runtime}x", out, sizeof out), 0);
    CU_ASSERT_EQUAL(runtime_expand("${runtime}xx", out, sizeof out), ERR_TOO_LARGE);
    CU_ASSERT_EQUAL(runtime_expand("", out, 0), ERR_TOO_LARGE);
    CU_ASSERT_EQUAL(runtime_folder(out, 8), ERR_TOO_LARGE);
    CU_ASSERT_EQUAL(runtime_folder(out, 9), 0);
    restore_xdg();
}

static void prepare_creates_the_folder_for_this_user_alone(void)
{
    char root[] = "/tmp/attnd-test-XXXXXX", endpoint[256], folder[160], xdg[160];
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(root));
    struct stat s;
    snprintf(xdg, sizeof xdg, "%s/run", root);
    snprintf(folder, sizeof folder, "%s/run/attnd", root);
    snprintf(endpoint, sizeof endpoint, "ipc://%s/ingest.sock", folder);
    set_xdg(xdg);
    for (int again = 0; again < 2; again++)
        CU_ASSERT_EQUAL(runtime_prepare(endpoint, NULL), 0);
    CU_ASSERT_EQUAL(stat(folder, &s), 0);
    CU_ASSERT_EQUAL(s.st_mode & 0777, 0700);

    struct fault f = {0};
    CU_ASSERT_EQUAL(chmod(folder, 0777), 0);
    CU_ASSERT_EQUAL(runtime_prepare(endpoint, &f), ERR_IO); /* others could replace the sockets */
    CU_ASSERT_PTR_NOT_NULL(strstr(f.text, "writable by nobody else"));
    rmdir(folder);

    FILE *file = fopen(folder, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fclose(file);
    CU_ASSERT_EQUAL(runtime_prepare(endpoint, &f), ERR_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(f.text, "not a folder"));
    unlink(folder);
    rmdir(xdg);
    rmdir(root);
    restore_xdg();
}

static void prepare_leaves_other_endpoints_alone(void)
{
    static const char *const others[] = {"tcp://127.0.0.1:5701", "inproc://x", "ipc://@abstract/name", "ipc://*",
                                         "ipc://plain.sock"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        CU_ASSERT_EQUAL(runtime_prepare(others[i], NULL), 0);
    char too_long[200] = "ipc:///tmp/";
    struct fault f = {0};
    memset(too_long + strlen(too_long), 'x', sizeof too_long - strlen(too_long) - 1);
    too_long[sizeof too_long - 1] = '\0';
    CU_ASSERT_EQUAL(runtime_prepare(too_long, &f), ERR_TOO_LARGE);
}

TEST_SUITE("lib/base/runtime", TEST(the_folder_follows_xdg_and_falls_back_to_tmp),
           TEST(the_placeholder_is_replaced_everywhere_and_nothing_else), TEST(what_does_not_fit_is_refused_to_the_byte),
           TEST(prepare_creates_the_folder_for_this_user_alone), TEST(prepare_leaves_other_endpoints_alone))
