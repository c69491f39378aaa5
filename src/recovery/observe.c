/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recovery/observe.h"

#include <gio/gio.h>
#include <string.h>
#include <unistd.h>

#include "probe/cgroup.h"
#include "probe/process.h"

/* A unit of that name may be another user's as well, who calls his units what he likes. */
static gboolean is_owner(const Lease *lease, const SocketEntry *entry)
{
    g_autofree char *unit = NULL;
    uid_t manager = CGROUP_NO_USER;

    if (entry->uid == lease->uid)
        return TRUE;
    if (!lease->unit)
        return FALSE;
    unit = socket_entry_unit(entry, &manager);
    return g_strcmp0(unit, lease->unit) == 0 &&
           (manager == CGROUP_NO_USER || manager == lease->uid);
}

/* Nobody but us runs as our user, and what of ours listens was handed over: by port, protocol and
 * address to this lease, since a listener keeps the port from being granted to anybody else. As
 * root we are not alone. */
static gboolean is_handed_over(const Lease *lease, const SocketEntry *entry, guint32 inode)
{
    return (lease->protocol & entry->protocol) != 0 &&
           ((inode != 0 && entry->inode == inode) || (geteuid() != 0 && entry->uid == geteuid()));
}

/* x.socket for x.service, of the system's manager alone: a user's makes sockets of his own uid. */
static gboolean is_activated(const Lease *lease, const SocketEntry *entry)
{
    uid_t manager = CGROUP_NO_USER;
    g_autofree char *unit = NULL;
    size_t length;

    if (entry->uid != 0 || !lease->unit || !g_str_has_suffix(lease->unit, ".service"))
        return FALSE;
    unit = socket_entry_unit(entry, &manager);
    if (!unit || manager != CGROUP_NO_USER || !g_str_has_suffix(unit, ".socket"))
        return FALSE;
    length = strlen(unit) - strlen(".socket");
    return length == strlen(lease->unit) - strlen(".service") &&
           strncmp(unit, lease->unit, length) == 0;
}

Listener observe_listener(const Lease *lease, const SocketTable *table, const char *address,
                          guint32 inode)
{
    const SocketEntry *entry = socket_table_find(table, lease->port, PROTOCOL_TCP);
    const SocketEntry *end = NULL;
    Listener listener = LISTENER_NONE;

    if (!entry)
        return LISTENER_NONE;
    end = &g_array_index(table->entries, SocketEntry, 0) + table->entries->len;
    for (; entry < end && entry->port == lease->port && entry->protocol == PROTOCOL_TCP; entry++) {
        if (!entry->listening || !socket_entry_covers(entry, address))
            continue;
        if (!is_handed_over(lease, entry, inode) && !is_owner(lease, entry) &&
            !is_activated(lease, entry))
            return LISTENER_FOREIGN;
        listener = LISTENER_OWN;
    }
    return listener;
}

static void look_at(const Lease *lease, const SocketTable *table, Protocol protocol, Fact *served,
                    Fact *by_owner, const SocketEntry **ret_entry)
{
    const SocketEntry *entry = socket_table_find(table, lease->port, protocol);
    const SocketEntry *end = &g_array_index(table->entries, SocketEntry, 0) + table->entries->len;

    for (; entry && entry < end && entry->port == lease->port && entry->protocol == protocol;
         entry++) {
        if (!entry->listening || !socket_entry_covers(entry, lease->address))
            continue;
        if (*served != FACT_YES)
            *ret_entry = entry;
        *served = FACT_YES;
        if (!by_owner) /* the first one says it all */
            return;
        if (*by_owner != FACT_YES && is_owner(lease, entry)) {
            *by_owner = FACT_YES;
            *ret_entry = entry;
        }
    }
}

Fact observe_served(const Lease *lease, const SocketTable *table, Fact *ret_by_owner,
                    const SocketEntry **ret_entry)
{
    Fact served = FACT_NO;
    const SocketEntry *entry = NULL;

    if (ret_by_owner)
        *ret_by_owner = table ? FACT_NO : FACT_UNKNOWN;
    if (!table)
        return FACT_UNKNOWN;
    if (table->entries->len > 0 && lease->protocol & PROTOCOL_TCP)
        look_at(lease, table, PROTOCOL_TCP, &served, ret_by_owner, &entry);
    if (table->entries->len > 0 && lease->protocol & PROTOCOL_UDP &&
        (ret_by_owner || served != FACT_YES))
        look_at(lease, table, PROTOCOL_UDP, &served, ret_by_owner, &entry);
    if (ret_entry && entry)
        *ret_entry = entry;
    return served;
}

LeaseFacts observe_lease(const Lease *lease, const SocketTable *table)
{
    LeaseFacts facts = {0};

    facts.served = observe_served(lease, table, &facts.served_by_owner, NULL);
    if (lease->process.pid <= 0)
        return facts;
    switch (process_check(&lease->process, NULL)) {
    case PROCESS_ALIVE:
        facts.process_runs = FACT_YES;
        break;
    case PROCESS_DEAD:
        facts.process_runs = FACT_NO;
        break;
    case PROCESS_UNKNOWN:
        break;
    }
    return facts;
}

LeaseFacts observe_now(const Lease *lease)
{
    g_autoptr(SocketTable) table = socket_table_dump_deep(
        (PortRange){lease->port, lease->port}, lease->protocol, SOCKET_DEPTH_LISTENING, NULL);

    return observe_lease(lease, table);
}

/* ---- the picture ---- */

typedef struct Taking {
    PortRange range;
    Protocol protocol;
    SocketDepth depth;
    ObserveTaken taken;
    void *data;
} Taking;

static void take(GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
    const Taking *taking = data;
    GError *error = NULL;
    SocketTable *table =
        socket_table_dump_deep(taking->range, taking->protocol, taking->depth, &error);

    if (table)
        g_task_return_pointer(task, table, (GDestroyNotify)(void (*)(void))socket_table_free);
    else
        g_task_return_error(task, error);
}

static void on_taken(GObject *source, GAsyncResult *result, gpointer data)
{
    const Taking *taking = data;
    g_autoptr(GError) error = NULL;
    SocketTable *table = g_task_propagate_pointer(G_TASK(result), &error);

    taking->taken(table, error, taking->data);
}

void observe_take_range(GMainContext *context, PortRange range, Protocol protocol,
                        SocketDepth depth, ObserveTaken taken, void *data)
{
    Taking *taking = g_new(Taking, 1);
    g_autoptr(GTask) task = NULL;

    *taking = (Taking){range, protocol, depth, taken, data};
    /* A task comes back to the context that is the thread's default when it is made. */
    g_main_context_push_thread_default(context);
    task = g_task_new(NULL, NULL, on_taken, taking);
    g_main_context_pop_thread_default(context);
    g_task_set_source_tag(task, observe_take_range);
    g_task_set_task_data(task, taking, g_free);
    g_task_run_in_thread(task, take);
}

void observe_take(GMainContext *context, ObserveTaken taken, void *data)
{
    observe_take_range(context, (PortRange){0, 0}, PROTOCOL_BOTH, SOCKET_DEPTH_LISTENING, taken,
                       data);
}
