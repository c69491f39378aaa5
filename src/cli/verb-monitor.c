/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <glib/gi18n.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>

#include "cli/client.h"
#include "cli/lease-view.h"
#include "cli/output.h"
#include "cli/verbs.h"
#include "util/fd.h"

/* What each signal carries, in the words of its arguments; all but the last two end with details.
 */
static const struct {
    const char *member;
    const char *type;
    const char *names[4];
    const char *text; /* what happened, for people; NULL: the arguments say it */
    Colour colour;
} signals[] = {
    {"PortAllocated",
     "(sqsa{sv})",
     {"lease", "port", "service_type", "details"},
     N_("allocated"),
     COLOUR_GOOD},
    {"PortReleased",
     "(sqsa{sv})",
     {"lease", "port", "reason", "details"},
     N_("released"),
     COLOUR_FAINT},
    {"PortConflict",
     "(qsa{sv})",
     {"port", "service_type", "details"},
     N_("conflict"),
     COLOUR_DOUBT},
    {"HealthChanged",
     "(sqsa{sv})",
     {"lease", "port", "health", "details"},
     N_("health"),
     COLOUR_DOUBT},
    {"StaleReleased",
     "(sqsa{sv})",
     {"lease", "port", "reason", "details"},
     N_("stale"),
     COLOUR_BAD},
    {"ServiceRestarted",
     "(sqsa{sv})",
     {"lease", "port", "unit", "details"},
     N_("restarted"),
     COLOUR_DOUBT},
    {"RecoveryStarted", "(s)", {"trigger"}, N_("recovery"), COLOUR_HEADER},
    {"RecoveryStep", "(ssa{sv})", {"step", "result", "details"}, N_("step"), COLOUR_FAINT},
    {"RecoveryFinished", "(ba{sv})", {"ok", "summary"}, N_("recovered"), COLOUR_HEADER},
};

static int find_signal(const char *member, GVariant *args)
{
    for (size_t i = 0; i < G_N_ELEMENTS(signals); i++)
        if (g_str_equal(signals[i].member, member) &&
            g_str_equal(signals[i].type, g_variant_get_type_string(args)))
            return (int)i;
    return -1;
}

static void print_json(int index, GVariant *args)
{
    g_auto(GVariantBuilder) dict = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);

    dict_add(&dict, "signal", g_variant_new("s", signals[index].member));
    dict_add(&dict, "time_usec", g_variant_new("x", g_get_real_time()));
    for (gsize i = 0; i < g_variant_n_children(args); i++) {
        g_autoptr(GVariant) value = g_variant_get_child_value(args, i);

        dict_add(&dict, signals[index].names[i], value);
    }
    output_json(g_variant_builder_end(&dict));
}

/* The place of an argument in a line: the port first, as it is what people know their services by,
 * the lease last, as it is long. */
static guint place_of(const char *name)
{
    if (g_str_equal(name, "port"))
        return 0;
    if (g_str_equal(name, "details") || g_str_equal(name, "summary"))
        return 2;
    return g_str_equal(name, "lease") ? 3 : 1;
}

/* Details without the steps of a recovery, each of which had a line of its own. */
static char *details_line(GVariant *details)
{
    g_auto(GVariantBuilder) rest = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);
    g_autoptr(GVariant) dict = NULL;

    for (gsize i = 0; i < g_variant_n_children(details); i++) {
        g_autoptr(GVariant) entry = g_variant_get_child_value(details, i);
        const char *key = NULL;

        g_variant_get_child(entry, 0, "&s", &key);
        if (!g_str_equal(key, "steps"))
            g_variant_builder_add_value(&rest, entry);
    }
    dict = g_variant_ref_sink(g_variant_builder_end(&rest));
    return dict_to_line(dict);
}

static void print_line(int index, GVariant *args)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_local();
    g_autofree char *time = g_date_time_format(now, "%H:%M:%S");
    g_autoptr(GString) line = g_string_new(NULL);

    g_string_append_printf(line, "%s %s%-10s%s", time, output_colour(signals[index].colour),
                           _(signals[index].text), output_colour_end());
    for (guint place = 0; place < 4; place++)
        for (gsize i = 0; i < g_variant_n_children(args); i++) {
            g_autoptr(GVariant) value = g_variant_get_child_value(args, i);
            g_autofree char *text = NULL;

            if (place_of(signals[index].names[i]) != place)
                continue;
            text = place == 2 ? details_line(value) : value_to_text(value);
            if (*text)
                g_string_append_printf(line, " %s", text);
        }
    puts(line->str);
}

/* People want to know why it is quiet; the JSON lines are of the daemon's signals alone. */
static void tell_owner(GVariant *args)
{
    const char *new_owner = NULL;

    g_variant_get_child(args, 2, "&s", &new_owner);
    output_note(*new_owner ? _("the daemon is there") : _("the daemon has left"));
}

static void on_signal(const char *member, GVariant *args, void *data)
{
    int index = find_signal(member, args);

    if (g_str_equal(member, CLIENT_OWNER_CHANGED))
        tell_owner(args);
    if (index < 0)
        return;
    if (output_json_mode() != JSON_MODE_OFF)
        print_json(index, args);
    else
        print_line(index, args);
    /* whoever reads a pipe wants each event when it happens */
    (void)fflush(stdout);
}

static int open_signals(void)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -errno;
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

ExitStatus verb_monitor(const Arguments *args, GError **error)
{
    g_autoptr(Client) client = client_open(args, error);
    AUTO_FD signal_fd = -1;

    if (!client)
        return EXIT_STATUS_UNREACHABLE;
    client_set_signal_handler(client, on_signal, NULL);
    if (!client_add_match(client, NULL, error))
        return EXIT_STATUS_UNREACHABLE;
    client_watch_owner(client);
    signal_fd = open_signals();
    if (signal_fd < 0) {
        g_set_error(error, CLI_ERROR, EXIT_STATUS_FAILED, _("cannot wait for signals: %s"),
                    g_strerror(errno));
        return EXIT_STATUS_FAILED;
    }
    output_note(_("waiting for events, Ctrl-C ends it"));
    for (;;) {
        struct pollfd fds[2] = {{.fd = signal_fd, .events = POLLIN}};

        if (!client_process(client, error))
            return EXIT_STATUS_UNREACHABLE;
        if (ferror(stdout)) /* nobody reads any more */
            return EXIT_STATUS_FAILED;
        fds[1].fd = client_fd(client);
        fds[1].events = client_events(client);
        if (poll(fds, G_N_ELEMENTS(fds), client_timeout_msec(client)) < 0 && errno != EINTR)
            continue;
        if (fds[0].revents)
            return EXIT_STATUS_OK;
    }
}
