/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/arguments-tables.h"

#include <glib/gi18n.h>

#include "cli/text.h"

static const VerbInfo verbs[_VERB_MAX] = {
    [VERB_ALLOCATE] = {"allocate", N_("TYPE [OPTIONS]"), N_("Get a port and print it"), 1, 1, TRUE},
    [VERB_RUN] = {"run", N_("TYPE [OPTIONS] -- COMMAND…"),
                  N_("Run a command with a port of its own"), 1, 1, TRUE},
    [VERB_RELEASE] = {"release", N_("PORT[/PROTOCOL]|LEASE… | --instance=NAME"),
                      N_("Give leases back"), 1, G_MAXUINT, FALSE},
    [VERB_RENEW] = {"renew", N_("PORT[/PROTOCOL]|LEASE…"),
                    N_("Start the time to live of leases anew"), 1, G_MAXUINT, FALSE},
    [VERB_LIST] = {"list", N_("[OPTIONS]"), N_("List leases"), 0, 0, FALSE},
    [VERB_SHOW] = {"show", N_("PORT[/PROTOCOL]|LEASE"), N_("Show all about one lease"), 1, 1,
                   FALSE},
    [VERB_CHECK] = {"check", N_("PORT[/PROTOCOL]"),
                    N_("Tell whether a port is free, and who has it"), 1, 1, FALSE},
    [VERB_SCAN] = {"scan", N_("[FIRST-LAST]"), N_("List what listens, leased or not"), 0, 1, FALSE},
    [VERB_SUGGEST] = {"suggest", N_("TYPE [--count=N]"),
                      N_("Tell which ports would be granted next"), 1, 1, TRUE},
    [VERB_MONITOR] = {"monitor", "", N_("Follow what happens"), 0, 0, FALSE},
    [VERB_STATUS] = {"status", "", N_("Show the state of the daemon"), 0, 0, FALSE},
    [VERB_METRICS] = {"metrics", "", N_("Show counters and gauges"), 0, 0, FALSE},
    [VERB_HEALTH] = {"health", N_("[PORT[/PROTOCOL]|LEASE]"), N_("Show the health of leases"), 0, 1,
                     FALSE},
    [VERB_CLEANUP] = {"cleanup", "", N_("Release what is stale, now"), 0, 0, FALSE},
    [VERB_RECOVER] = {"recover", "", N_("Run the recovery steps of the start, now"), 0, 0, FALSE},
    [VERB_CONFIG] = {"config", N_("check [FILE…] | show | sysctl"),
                     N_("Check or show the configuration"), 1, G_MAXUINT, FALSE},
    [VERB_RELOAD] = {"reload", "", N_("Make the daemon read its configuration again"), 0, 0, FALSE},
};

#define LEFT_WIDTH 28

#define BIT(verb) (1u << (verb))
#define ALL (BIT(_VERB_MAX) - 1)
#define GRANT (BIT(VERB_ALLOCATE) | BIT(VERB_RUN))

static const OptionInfo options[] = {
    {OPTION_SYSTEM, "system", 0, NULL, NULL, N_("Talk to the system's daemon (default)"), ALL},
    {OPTION_USER, "user", 0, NULL, NULL, N_("Talk to the daemon of the calling user"), ALL},
    {OPTION_BUS_ADDRESS, "address", 0, N_("ADDRESS"),
     N_("a D-Bus address (unix:path=…) or an IP address"),
     N_("Talk to the daemon at this D-Bus address"), ALL},
    {OPTION_JSON, "json", 0, N_("MODE"), N_("'short', 'pretty' or 'off'"),
     N_("Print JSON: short, pretty or off"), ALL},
    {OPTION_QUIET, "quiet", 'q', NULL, NULL, N_("Say nothing but results and errors"), ALL},
    {OPTION_NO_PAGER, "no-pager", 0, NULL, NULL, N_("Do not pipe output into a pager"), ALL},
    {OPTION_HELP, "help", 'h', NULL, NULL, N_("Show this help"), ALL},
    {OPTION_VERSION, "version", 0, NULL, NULL, N_("Show the version"), ALL},
    {OPTION_PORT, "port", 0, N_("PORT"), N_("a port, 1 to 65535"), N_("Prefer this port"), GRANT},
    {OPTION_STRICT, "strict", 0, NULL, NULL, N_("Take that port or none"), GRANT},
    {OPTION_RANGE, "range", 0, N_("FIRST-LAST"), N_("a range of ports such as 3000-3099"),
     N_("Look in this range instead of the type's"), GRANT},
    {OPTION_PROTOCOL, "protocol", 0, N_("PROTOCOL"), N_("'tcp', 'udp' or 'both'"),
     N_("tcp, udp or both"),
     GRANT | BIT(VERB_RELEASE) | BIT(VERB_RENEW) | BIT(VERB_LIST) | BIT(VERB_SHOW) |
         BIT(VERB_CHECK) | BIT(VERB_HEALTH)},
    {OPTION_BIND_ADDRESS, "address", 0, N_("IP"), N_("an IP address"),
     N_("Only on this IP address (default: on every one)"), GRANT},
    {OPTION_INSTANCE, "instance", 0, N_("NAME"), N_("1 to 100 letters, digits, '-' and '_'"),
     N_("Name of the instance: the same one gets the same port"),
     GRANT | BIT(VERB_RELEASE) | BIT(VERB_LIST)},
    {OPTION_LABEL, "label", 0, N_("TEXT"), N_("1 to 100 letters, digits, '.', '-' and '_'"),
     N_("A note to find the lease by"), GRANT},
    {OPTION_PID, "pid", 0, N_("PID"), N_("a process id"), N_("The process that uses the port"),
     BIT(VERB_ALLOCATE)},
    {OPTION_LIFETIME, "lifetime", 0, N_("LIFETIME"), N_("'auto', 'process' or 'persistent'"),
     N_("auto, process or persistent"), BIT(VERB_ALLOCATE)},
    {OPTION_HOLD, "hold", 0, N_("HOLD"), N_("'none' or 'soft'"),
     N_("soft: keep others from binding the port meanwhile"), GRANT},
    {OPTION_RETRIES, "retries", 0, N_("N"), N_("a whole number"),
     N_("How often to try again when nothing is free"), GRANT},
    {OPTION_TTL, "ttl", 0, N_("TIME"), N_("a time such as 30, 1500ms, 5min or 1h"),
     N_("End the lease unless it is renewed in this time"), BIT(VERB_ALLOCATE)},
    {OPTION_HEALTH_URL, "health-url", 0, N_("URL"), N_("a URL"),
     N_("Where the service tells its health"), GRANT},
    {OPTION_HEALTH_TIMEOUT, "health-timeout", 0, N_("TIME"),
     N_("a time such as 5, 1500ms, 5min or 1h"), N_("How long it may take to answer"), GRANT},
    {OPTION_ON_UNHEALTHY, "on-unhealthy", 0, N_("ACTION"), N_("'release', 'restart' or 'notify'"),
     N_("release, restart or notify"), GRANT},
    {OPTION_COUNT, "count", 0, N_("N"), N_("a number, 1 to 65535"), N_("That many ports"),
     BIT(VERB_ALLOCATE) | BIT(VERB_SUGGEST)},
    {OPTION_SOCKET, "socket", 0, NULL, NULL, N_("Hand over the listening socket (LISTEN_FDS)"),
     BIT(VERB_RUN)},
    {OPTION_TYPE, "type", 0, N_("TYPE"), N_("a service type: 1 to 50 letters, digits and '-'"),
     N_("Only leases of this service type"), BIT(VERB_LIST)},
    {OPTION_UID, "uid", 0, N_("UID"), N_("a numeric user id"), N_("Only leases of this user"),
     BIT(VERB_LIST)},
    {OPTION_HEALTH, "health", 0, N_("HEALTH"),
     N_("'reserved', 'active', 'failing', 'dormant' or 'quarantined'"),
     N_("Only leases of this health"), BIT(VERB_LIST)},
    {OPTION_DRY_RUN, "dry-run", 'n', NULL, NULL, N_("Only tell what would be done"),
     BIT(VERB_CLEANUP) | BIT(VERB_RECOVER)},
    {OPTION_PROMETHEUS, "prometheus", 0, NULL, NULL, N_("Print the Prometheus text format"),
     BIT(VERB_METRICS)},
};

const char *verb_name(VerbId verb)
{
    g_return_val_if_fail(verb < _VERB_MAX, "?");
    return verbs[verb].name;
}

VerbId verb_from_name(const char *name)
{
    for (guint i = 0; i < _VERB_MAX; i++)
        if (g_str_equal(verbs[i].name, name))
            return (VerbId)i;
    return _VERB_MAX;
}

const VerbInfo *verb_info(VerbId verb)
{
    return &verbs[verb];
}

const OptionInfo *option_find(const char *name, char letter)
{
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++)
        if (name ? g_str_equal(options[i].name, name) : options[i].letter == letter)
            return &options[i];
    return NULL;
}

static const OptionInfo *option_by_id(OptionId option)
{
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++)
        if (options[i].id == option)
            return &options[i];
    g_assert_not_reached();
}

const char *option_name(OptionId option)
{
    return option_by_id(option)->name;
}

gboolean option_applies(OptionId option, VerbId verb)
{
    return (option_by_id(option)->verbs & BIT(verb)) != 0;
}

static void append_entry(GString *text, const char *left, const char *right)
{
    guint width = text_width(left);

    if (width > LEFT_WIDTH - 2)
        g_string_append_printf(text, "  %s\n  %*s%s\n", left, LEFT_WIDTH, "", right);
    else
        g_string_append_printf(text, "  %s%*s%s\n", left, (int)(LEFT_WIDTH - width), "", right);
}

static void append_options(GString *text, VerbId verb, gboolean global)
{
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        const OptionInfo *o = &options[i];
        g_autofree char *left = NULL;

        if ((o->verbs == ALL) != global || (!global && !(o->verbs & BIT(verb))))
            continue;
        if (o->letter)
            left = g_strdup_printf("-%c --%s", o->letter, o->name);
        else
            left = g_strdup_printf("   --%s%s%s", o->name, o->metavar ? "=" : "",
                                   o->metavar ? _(o->metavar) : "");
        append_entry(text, left, _(o->summary));
    }
}

static void append_verb_help(GString *text, VerbId verb)
{
    const VerbInfo *info = &verbs[verb];
    gsize before;

    g_string_append_printf(text, "styxyctl %s%s%s\n\n%s.\n", info->name, *info->synopsis ? " " : "",
                           *info->synopsis ? _(info->synopsis) : "", _(info->summary));
    g_string_append_printf(text, "\n%s\n", _("Options:"));
    before = text->len;
    append_options(text, verb, FALSE);
    if (text->len > before)
        g_string_append_c(text, '\n');
}

static void append_program_help(GString *text)
{
    g_string_append_printf(text, "styxyctl %s\n\n%s\n\n%s\n", _("[OPTIONS] VERB …"),
                           _("Ask the Styxy daemon for TCP and UDP ports, and see who has them."),
                           _("Verbs:"));
    for (guint i = 0; i < _VERB_MAX; i++) {
        g_autofree char *left = NULL;

        left = g_strdup_printf("%s%s%s", verbs[i].name, *verbs[i].synopsis ? " " : "",
                               *verbs[i].synopsis ? _(verbs[i].synopsis) : "");
        append_entry(text, left, _(verbs[i].summary));
    }
    g_string_append_printf(text, "\n%s\n", _("Options:"));
}

char *arguments_help(VerbId verb)
{
    GString *text = g_string_new(NULL);

    if (verb < _VERB_MAX)
        append_verb_help(text, verb);
    else
        append_program_help(text);
    append_options(text, verb, TRUE);
    if (verb == _VERB_MAX)
        g_string_append_printf(text, "\n%s\n",
                               _("'styxyctl VERB --help' shows the options of a verb; the whole "
                                 "story is in styxyctl(1)."));
    return g_string_free(text, FALSE);
}
