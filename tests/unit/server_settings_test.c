/* Settings: flag over environment over file over default; wrong values and unknown names are refused with a reason that helps. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "proto/error.h"
#include "server/settings.h"

static int load(struct settings *s, const char **argv, const char **env, char err[256])
{
    int argc = 0;
    while (argv[argc] != NULL) {
        argc++;
    }
    bool help;
    return settings_load(s, argc, (char **)(uintptr_t)argv, (char **)(uintptr_t)env, &help, err);
}

static void precedence(void **state)
{
    (void)state;
    char path[] = "/tmp/sluice-settings-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    const char *text = "; a comment\nnode-id = 3\nlanes=2\ncache = 8MiB\n";
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    char flag[128];
    snprintf(flag, sizeof flag, "--config=%s", path);
    const char *argv[] = { "sluiced", flag, "--node-id", "5", NULL };
    const char *env[] = { "HOME=/", "SLUICE_LANES=4", "SLUICE_ENDPOINTS=ignored", NULL };
    struct settings s;
    char err[256];
    assert_int_equal(load(&s, argv, env, err), 0);
    assert_int_equal(s.node_id, 5);            /* flag */
    assert_int_equal(s.lanes, 4);              /* environment */
    assert_int_equal(s.cache, 8 << 20);        /* file */
    assert_int_equal(s.replicas, 3);           /* default */
    assert_string_equal(s.listen, "127.0.0.1:4570");
    unlink(path);
}

static void unknown_names_the_nearest(void **state)
{
    (void)state;
    struct settings s;
    char err[256];
    const char *argv[] = { "sluiced", "--node-di", "5", NULL };
    assert_int_equal(load(&s, argv, NULL, err), SLUICE_E_INVALID);
    assert_non_null(strstr(err, "node-id"));
    const char *env[] = { "SLUICE_RETENTIONS=1", NULL };
    const char *none[] = { "sluiced", NULL };
    assert_int_equal(load(&s, none, env, err), SLUICE_E_INVALID);
    assert_non_null(strstr(err, "SLUICE_RETENTIONS"));
}

static void values_are_checked(void **state)
{
    (void)state;
    struct settings s;
    char err[256];
    settings_defaults(&s);
    static const char *const bad[][2] = {
        { "lanes", "65" }, { "lanes", "-1" }, { "lanes", "" }, { "lanes", "1x" }, { "cache", "1 EiB" }, { "cache", "99999999999999999999" }, { "join", "maybe" },
        { "memory", "18446744073709551615GiB" }, { "node-id", "0" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        err[0] = 0;
        struct settings before = s;
        assert_int_equal(settings_set(&s, bad[i][0], bad[i][1], err), SLUICE_E_INVALID);
        assert_non_null(strstr(err, bad[i][0]));
        assert_memory_equal(&before, &s, sizeof s);
    }
    assert_int_equal(settings_set(&s, "memory", "2GiB", err), 0);
    assert_true(s.memory == 2ull << 30);
    assert_int_equal(settings_set(&s, "join", "on", err), 0);
    assert_true(s.join);
}

static void checks_together(void **state)
{
    (void)state;
    struct settings s;
    char err[256];
    settings_defaults(&s);
    assert_int_equal(settings_check(&s, err), 0);
    assert_int_equal(settings_set(&s, "cluster", "1=a:1,2=b:2,3=[::1]:3", err), 0);
    assert_int_equal(settings_check(&s, err), 0);
    settings_set(&s, "node-id", "4", err);
    assert_int_equal(settings_check(&s, err), SLUICE_E_INVALID); /* not named, not joining */
    settings_set(&s, "join", "true", err);
    assert_int_equal(settings_check(&s, err), 0);
    settings_set(&s, "cluster", "1=a:1,1=b:2", err);
    assert_int_equal(settings_check(&s, err), SLUICE_E_INVALID);
    settings_set(&s, "cluster", "1=a", err);
    assert_int_equal(settings_check(&s, err), SLUICE_E_INVALID);
    settings_defaults(&s);
    settings_set(&s, "listen", "4570", err);
    assert_int_equal(settings_check(&s, err), SLUICE_E_INVALID);
    settings_defaults(&s);
    settings_set(&s, "controller-nodes", "2", err);
    assert_int_equal(settings_check(&s, err), SLUICE_E_INVALID);
    settings_defaults(&s);
    settings_set(&s, "log-level", "loud", err);
    assert_int_equal(settings_check(&s, err), SLUICE_E_INVALID);
    settings_defaults(&s);
    settings_set(&s, "kinesis-tls-cert", "cert.pem", err);
    assert_int_equal(settings_check(&s, err), SLUICE_E_INVALID);
    assert_non_null(strstr(err, "needs kinesis-tls-key"));
    settings_set(&s, "kinesis-tls-key", "key.pem", err);
    assert_int_equal(settings_check(&s, err), 0);
    settings_set(&s, "kinesis-tls-cert", "", err);
    assert_int_equal(settings_check(&s, err), SLUICE_E_INVALID);
    assert_non_null(strstr(err, "needs kinesis-tls-cert"));
}

static void flags(void **state)
{
    (void)state;
    struct settings s;
    char err[256];
    const char *missing[] = { "sluiced", "--data", NULL };
    assert_int_equal(load(&s, missing, NULL, err), SLUICE_E_INVALID);
    const char *stray[] = { "sluiced", "data", NULL };
    assert_int_equal(load(&s, stray, NULL, err), SLUICE_E_INVALID);
    const char *boolean[] = { "sluiced", "--join", "--cluster=1=a:1", "--data=/x y", NULL };
    assert_int_equal(load(&s, boolean, NULL, err), 0);
    assert_true(s.join);
    assert_string_equal(s.data, "/x y");
    const char *help[] = { "sluiced", "--help", NULL };
    bool wanted = false;
    assert_int_equal(settings_load(&s, 2, (char **)(uintptr_t)help, NULL, &wanted, err), 0);
    assert_true(wanted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(precedence), cmocka_unit_test(unknown_names_the_nearest), cmocka_unit_test(values_are_checked), cmocka_unit_test(checks_together),
        cmocka_unit_test(flags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
