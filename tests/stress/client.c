/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "client.h"

#include <errno.h>
#include <string.h>

#define HELD_MAX 24
#define INSTANCES 4
#define BLOCK 3
#define CALL_USEC (20 * G_USEC_PER_SEC)
#define WAIT_USEC (30 * G_USEC_PER_SEC)

struct Load {
    const World *world;
    Facts *facts;
    GMutex lock;
    GCond changed;
    guint round; /* how often the gate was opened */
    gboolean over;
    guint waiting, n;
    GThread **threads;
};

typedef struct Client {
    Load *load;
    guint number;
    guint round; /* the last one that it took part in */
    guint calls; /* for labels */
    Transport transport;
    GRand *dice;
    sd_bus *bus;
    GPtrArray *held;           /* of char *: leases to release some day */
    char *instance[INSTANCES]; /* the lease of each, NULL = none */
    gboolean broken;           /* a call went unanswered */
} Client;

typedef sd_bus_message Message;

static void message_unref(Message *message)
{
    sd_bus_message_unref(message);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Message, message_unref)

static void check(const Client *client, char *wrong)
{
    if (wrong)
        world_fail(client->load->world, "client %u: %s", client->number, wrong);
}

/* ---- one call ---- */

static gboolean is_no_answer(int r, const sd_bus_error *error)
{
    return r == -ECONNRESET || r == -ENOTCONN || r == -EPIPE || r == -ESHUTDOWN ||
           sd_bus_error_has_name(error, SD_BUS_ERROR_NO_REPLY) ||
           sd_bus_error_has_name(error, SD_BUS_ERROR_DISCONNECTED) ||
           sd_bus_error_has_name(error, SD_BUS_ERROR_SERVICE_UNKNOWN) ||
           sd_bus_error_has_name(error, SD_BUS_ERROR_NAME_HAS_NO_OWNER);
}

/* Returns: the reply; NULL = there is none, because the daemon is gone. Anything else is wrong. */
static Message *call(Client *client, Message *message)
{
    __attribute__((cleanup(sd_bus_error_free))) sd_bus_error error = SD_BUS_ERROR_NULL;
    Message *reply = NULL;
    int r = sd_bus_call(client->bus, message, CALL_USEC, &error, &reply);

    if (r >= 0)
        return reply;
    if (!is_no_answer(r, &error))
        world_fail(client->load->world, "client %u: %s: %s: %s", client->number,
                   sd_bus_message_get_member(message), error.name ? error.name : g_strerror(-r),
                   error.message);
    client->broken = TRUE;
    return NULL;
}

static Message *new_call(Client *client, const char *member)
{
    Message *message = NULL;
    int r = sd_bus_message_new_method_call(client->bus, &message, "org.styxy.Ports",
                                           "/org/styxy/Ports", "org.styxy.Ports", member);

    if (r >= 0)
        return message;
    client->broken = TRUE; /* the connection has ended meanwhile */
    return NULL;
}

static char *next_label(Client *client)
{
    return g_strdup_printf("client-%u-call-%u", client->number, client->calls++);
}

/* ---- Allocate and AllocateBlock ---- */

static void allocate(Client *client, const char *lifetime, int instance)
{
    g_autoptr(Message) message = new_call(client, "Allocate");
    g_autoptr(Message) reply = NULL;
    g_autofree char *label = next_label(client);
    g_autofree char *own_type = g_strdup_printf("stress-%u", client->number);
    g_autofree char *name = NULL;
    const char *service_type = g_rand_boolean(client->dice) ? "load" : own_type;
    Grant grant = {.label = label, .lifetime = lifetime};

    if (!message)
        return;
    if (instance >= 0) {
        service_type = "load"; /* an instance is one of its type */
        grant.instance = name = g_strdup_printf("instance-%u-%d", client->number, instance);
        g_assert_cmpint(sd_bus_message_append(message, "sa{sv}", service_type, 3, "label", "s",
                                              label, "lifetime", "s", lifetime, "instance", "s",
                                              name),
                        >=, 0);
    } else {
        g_assert_cmpint(sd_bus_message_append(message, "sa{sv}", service_type, 2, "label", "s",
                                              label, "lifetime", "s", lifetime),
                        >=, 0);
    }
    grant.service_type = service_type;
    reply = call(client, message);
    if (!reply) {
        facts_maybe_granted(client->load->facts, label, 1);
        return;
    }
    g_assert_cmpint(sd_bus_message_read(reply, "qs", &grant.port, &grant.lease), >, 0);
    if (instance >= 0 && client->instance[instance]) {
        check(client, facts_handed_back(client->load->facts, &grant));
        return;
    }
    check(client, facts_granted(client->load->facts, &grant));
    if (instance >= 0)
        client->instance[instance] = g_strdup(grant.lease);
    else
        g_ptr_array_add(client->held, g_strdup(grant.lease));
}

static void allocate_block(Client *client)
{
    g_autoptr(Message) message = new_call(client, "AllocateBlock");
    g_autoptr(Message) reply = NULL;
    g_autofree char *label = next_label(client);
    Grant grant = {.label = label, .service_type = "load", .lifetime = "auto"};

    if (!message)
        return;
    g_assert_cmpint(
        sd_bus_message_append(message, "sqa{sv}", "load", BLOCK, 1, "label", "s", label), >=, 0);
    reply = call(client, message);
    if (!reply) {
        facts_maybe_granted(client->load->facts, label, BLOCK);
        return;
    }
    g_assert_cmpint(sd_bus_message_enter_container(reply, 'a', "(qs)"), >, 0);
    while (sd_bus_message_read(reply, "(qs)", &grant.port, &grant.lease) > 0) {
        check(client, facts_granted(client->load->facts, &grant));
        g_ptr_array_add(client->held, g_strdup(grant.lease));
    }
}

/* ---- Release ---- */

static void release(Client *client, const char *lease)
{
    g_autoptr(Message) message = new_call(client, "Release");
    g_autoptr(Message) reply = NULL;

    if (!message)
        return;
    g_assert_cmpint(sd_bus_message_append(message, "s", lease), >=, 0);
    facts_releasing(client->load->facts, lease);
    reply = call(client, message);
    if (reply)
        facts_released(client->load->facts, lease);
}

static void release_one(Client *client)
{
    guint index = (guint)g_rand_int_range(client->dice, 0, (gint32)client->held->len);
    g_autofree char *lease = g_ptr_array_steal_index_fast(client->held, index);

    release(client, lease);
}

static void use_instance(Client *client)
{
    int index = g_rand_int_range(client->dice, 0, INSTANCES);

    if (client->instance[index] && g_rand_boolean(client->dice)) {
        g_autofree char *lease = g_steal_pointer(&client->instance[index]);

        release(client, lease);
        return;
    }
    allocate(client, index % 2 ? "persistent" : "auto", index);
}

static void act(Client *client)
{
    gint32 dice = g_rand_int_range(client->dice, 0, 100);

    if (client->held->len >= HELD_MAX || (client->held->len > 0 && dice < 40))
        release_one(client);
    else if (dice < 75)
        allocate(client, "auto", -1);
    else if (dice < 85)
        allocate(client, "persistent", -1);
    else if (dice < 95)
        use_instance(client);
    else
        allocate_block(client);
}

/* ---- after a restart ---- */

/*
 * What a client has is what the daemon has under its labels: calls without an answer may have been
 * carried out. That nothing is wrong with it was found out before the gate was opened.
 */
static void take_stock(Client *client, const GArray *leases)
{
    g_autofree char *mine = g_strdup_printf("client-%u-", client->number);

    g_ptr_array_set_size(client->held, 0);
    for (guint i = 0; i < INSTANCES; i++)
        g_clear_pointer(&client->instance[i], g_free);
    for (guint i = 0; i < leases->len; i++) {
        const Grant *grant = &g_array_index(leases, Grant, i);

        if (!grant->label || !g_str_has_prefix(grant->label, mine))
            continue;
        if (grant->instance) {
            guint64 index = g_ascii_strtoull(strrchr(grant->instance, '-') + 1, NULL, 10);

            g_assert_cmpuint(index, <, INSTANCES);
            client->instance[index] = g_strdup(grant->lease);
        } else {
            g_ptr_array_add(client->held, g_strdup(grant->lease));
        }
    }
}

/* Once through it each time that it is opened. Returns: FALSE when it is all over. */
static gboolean wait_at_gate(Client *client)
{
    Load *load = client->load;
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&load->lock);

    load->waiting++;
    g_cond_broadcast(&load->changed);
    while (client->round == load->round && !load->over)
        g_cond_wait(&load->changed, &load->lock);
    client->round = load->round;
    return !load->over;
}

static gboolean list_over(sd_bus *bus, GArray **ret_leases, Message **ret_reply);

static void *client_main(void *data)
{
    Client *client = data;

    while (wait_at_gate(client)) {
        g_autoptr(Message) reply = NULL;
        g_autoptr(GArray) leases = NULL;

        client->broken = FALSE;
        client->bus = world_connect(client->load->world, client->transport);
        if (client->bus && list_over(client->bus, &leases, &reply)) {
            take_stock(client, leases);
            while (!client->broken)
                act(client);
        }
        g_clear_pointer(&reply, sd_bus_message_unref);
        client->bus = sd_bus_close_unref(client->bus);
    }
    g_ptr_array_unref(client->held);
    for (guint i = 0; i < INSTANCES; i++)
        g_free(client->instance[i]);
    g_rand_free(client->dice);
    g_free(client);
    return NULL;
}

Load *load_new(const World *world, Facts *facts, guint n, guint32 seed)
{
    Load *load = g_new0(Load, 1);

    load->world = world;
    load->facts = facts;
    load->n = n;
    load->threads = g_new(GThread *, n);
    g_mutex_init(&load->lock);
    g_cond_init(&load->changed);
    for (guint i = 0; i < n; i++) {
        Client *client = g_new0(Client, 1);

        client->load = load;
        client->number = i;
        client->transport = i % 2 ? TRANSPORT_DIRECT : TRANSPORT_BUS;
        client->dice = g_rand_new_with_seed(seed + i);
        client->held = g_ptr_array_new_with_free_func(g_free);
        load->threads[i] = g_thread_new("client", client_main, client);
    }
    return load;
}

Load *load_free(Load *load)
{
    if (!load)
        return NULL;
    g_mutex_lock(&load->lock);
    load->over = TRUE;
    g_cond_broadcast(&load->changed);
    g_mutex_unlock(&load->lock);
    for (guint i = 0; i < load->n; i++)
        (void)g_thread_join(load->threads[i]);
    g_mutex_clear(&load->lock);
    g_cond_clear(&load->changed);
    g_free(load->threads);
    g_free(load);
    return NULL;
}

void load_open_gate(Load *load)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&load->lock);

    load->round++;
    load->waiting = 0;
    g_cond_broadcast(&load->changed);
}

void load_await_waiting(Load *load)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&load->lock);
    gint64 deadline_usec = g_get_monotonic_time() + WAIT_USEC;

    while (load->waiting < load->n)
        if (!g_cond_wait_until(&load->changed, &load->lock, deadline_usec))
            world_fail(load->world, "%u of %u clients have not noticed the daemon's end",
                       load->n - load->waiting, load->n);
}

/* ---- List ---- */

static void read_lease(Message *reply, Grant *grant)
{
    const char *key;

    while (sd_bus_message_enter_container(reply, 'e', "sv") > 0) {
        g_assert_cmpint(sd_bus_message_read(reply, "s", &key), >, 0);
        if (strcmp(key, "lease") == 0)
            g_assert_cmpint(sd_bus_message_read(reply, "v", "s", &grant->lease), >, 0);
        else if (strcmp(key, "label") == 0)
            g_assert_cmpint(sd_bus_message_read(reply, "v", "s", &grant->label), >, 0);
        else if (strcmp(key, "service_type") == 0)
            g_assert_cmpint(sd_bus_message_read(reply, "v", "s", &grant->service_type), >, 0);
        else if (strcmp(key, "instance") == 0)
            g_assert_cmpint(sd_bus_message_read(reply, "v", "s", &grant->instance), >, 0);
        else if (strcmp(key, "lifetime") == 0)
            g_assert_cmpint(sd_bus_message_read(reply, "v", "s", &grant->lifetime), >, 0);
        else if (strcmp(key, "port") == 0)
            g_assert_cmpint(sd_bus_message_read(reply, "v", "q", &grant->port), >, 0);
        else
            g_assert_cmpint(sd_bus_message_skip(reply, "v"), >, 0);
        g_assert_cmpint(sd_bus_message_exit_container(reply), >, 0);
    }
}

/* Returns: FALSE when there is no answer. */
static gboolean list_over(sd_bus *bus, GArray **ret_leases, Message **ret_reply)
{
    g_autoptr(GArray) leases = g_array_new(FALSE, TRUE, sizeof(Grant));
    Message *reply = NULL;

    if (sd_bus_call_method(bus, "org.styxy.Ports", "/org/styxy/Ports", "org.styxy.Ports", "List",
                           NULL, &reply, "a{sv}", 0) < 0)
        return FALSE;
    g_assert_cmpint(sd_bus_message_enter_container(reply, 'a', "a{sv}"), >, 0);
    while (sd_bus_message_enter_container(reply, 'a', "{sv}") > 0) {
        Grant grant = {.port = 0};

        read_lease(reply, &grant);
        g_array_append_val(leases, grant);
        g_assert_cmpint(sd_bus_message_exit_container(reply), >, 0);
    }
    *ret_leases = g_steal_pointer(&leases);
    *ret_reply = reply;
    return TRUE;
}

GArray *list_leases(const World *world, sd_bus_message **ret_reply)
{
    sd_bus *bus = world_connect(world, TRANSPORT_DIRECT);
    GArray *leases = NULL;

    if (!bus || !list_over(bus, &leases, ret_reply))
        world_fail(world, "the daemon does not say what leases it has");
    sd_bus_close_unref(bus);
    return leases;
}
