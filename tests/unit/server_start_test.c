/* A node whose start is refused leaves nothing behind: no port, no lock, and (in a build with ASan) no memory. */
#include "env_uv_fixture.h"

#include <string.h>

#include "proto/error.h"
#include "server/node.h"

static void nobody(struct env_listener *l) { (void)l; }

static void set(struct settings *s, const char *name, const char *value)
{
    char err[256];
    if (settings_set(s, name, value, err) != 0) {
        fail_msg("%s", err);
    }
}

static void stopped(void *arg) { env_stop(arg); }

struct looking { struct env_timer timer; struct node *node; };

static void look(struct env_timer *t)
{
    char why[256];
    if (node_ready(container_of(t, struct looking, timer)->node, why)) {
        env_stop(t->env);
    } else {
        env_timer_start_ms(t, 5);
    }
}

/* The start is refused, with these words, for what `wrong` sets; without it the same folder and addresses work. */
static void refused(const char *name, const char *value, int code, const char *words)
{
    char dir[64], data[96], err[256] = "";
    make_dir(dir);
    snprintf(data, sizeof data, "%s/data", dir);
    struct env *env = open_loop();
    struct env_listener taken;
    assert_int_equal(env_listen(env, &taken, "127.0.0.1", 0, false, nobody), 0);
    char address[32];
    snprintf(address, sizeof address, "127.0.0.1:%u", taken.port);
    struct settings s;
    settings_defaults(&s);
    set(&s, "data", data);
    set(&s, "lanes", "2");
    set(&s, "log-level", "error");
    set(&s, "listen", "127.0.0.1:0");
    set(&s, "kinesis", "127.0.0.1:0");
    set(&s, "admin", "127.0.0.1:0");
    struct settings good = s;
    set(&s, name, value != NULL ? value : address);
    struct node *n = NULL;
    assert_int_equal(node_start(env, &s, &n, err), code);
    assert_null(n);
    if (strstr(err, words) == NULL) {
        fail_msg("%s", err);
    }
    env_listener_close(&taken);
    /* The lock of the folder is free again, although the process has not ended. */
    if (node_start(env, &good, &n, err) != 0) {
        fail_msg("%s", err);
    }
    struct looking l = { .node = n };
    assert_int_equal(env_timer_init(env, &l.timer, look), 0);
    env_timer_start_ms(&l.timer, 1);
    run_loop(env);
    env_timer_close(&l.timer);
    node_stop(n, stopped, env);
    run_loop(env);
    env_uv_close(env);
    remove_dir(dir);
}

static void native_port(void **state)
{
    (void)state;
    refused("listen", NULL, -EADDRINUSE, "cannot listen on 127.0.0.1:");
}

static void kinesis_port(void **state)
{
    (void)state;
    refused("kinesis", NULL, -EADDRINUSE, "cannot listen on the Kinesis address 127.0.0.1:");
}

static void admin_port(void **state)
{
    (void)state;
    refused("admin", NULL, -EADDRINUSE, "cannot listen on the admin address 127.0.0.1:");
}

static void access_keys(void **state)
{
    (void)state;
    refused("access-keys", "/nowhere/keys", SLUICE_E_INVALID, "setting access-keys: /nowhere/keys");
}

static void members(void **state)
{
    (void)state;
    refused("cluster", "1=127.0.0.1:1,2=a-name-that-is-longer-than-what-a-node-may-be-called-by-its-peers-in-here:1", SLUICE_E_INVALID, "a-name-that");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(native_port), cmocka_unit_test(kinesis_port), cmocka_unit_test(admin_port), cmocka_unit_test(access_keys), cmocka_unit_test(members),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
