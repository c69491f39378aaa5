/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <arpa/inet.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dict.h"
#include "method.h"

#define STYXY "org.styxy.Ports.Error."
#define DBUS "org.freedesktop.DBus.Error."

/* ---- errors ---- */

static gboolean is_styxy_error(const char *name)
{
    /* StateUnavailable and Degraded are documented, too, but nothing here is a cause for them. */
    static const char *const names[] = {STYXY "InvalidArgument",
                                        STYXY "UnknownServiceType",
                                        STYXY "UnknownLease",
                                        STYXY "PortInUse",
                                        STYXY "NoPortAvailable",
                                        STYXY "NotOwner",
                                        STYXY "NotAuthorized",
                                        STYXY "QuotaExceeded",
                                        STYXY "Busy",
                                        NULL};

    return g_strv_contains(names, name);
}

/* What sd-bus, or we as a broker, answer to what is not there or of other types. */
static gboolean is_standard_error(const char *name)
{
    static const char *const names[] = {
        DBUS "InvalidArgs",       DBUS "UnknownMethod",       DBUS "UnknownInterface",
        DBUS "UnknownObject",     DBUS "UnknownProperty",     DBUS "PropertyReadOnly",
        DBUS "ServiceUnknown",    DBUS "NameHasNoOwner",      DBUS "MatchRuleInvalid",
        DBUS "MatchRuleNotFound", DBUS "LimitsExceeded",      DBUS "Failed",
        DBUS "AccessDenied",      DBUS "InconsistentMessage", NULL};

    return g_strv_contains(names, name);
}

static void check_error(const Pending *pending, const sd_bus_error *error)
{
    Fuzz *fuzz = pending->actor->fuzz;
    const Method *method = pending->method;
    gboolean ours = method && g_str_has_prefix(method->interface, "org.styxy.");
    gboolean root = pending->actor->uid == 0;

    fuzz->counts.errors++;
    g_hash_table_insert(
        fuzz->errors, g_strdup(error->name),
        GUINT_TO_POINTER(GPOINTER_TO_UINT(g_hash_table_lookup(fuzz->errors, error->name)) + 1));
    if (!is_styxy_error(error->name) &&
        !((!ours || !pending->proper) && is_standard_error(error->name)))
        fuzz_fail(fuzz, "%s answered with %s: %s", method ? method->member : "a wrong call",
                  error->name, error->message);
    if (root && (strcmp(error->name, STYXY "NotOwner") == 0 ||
                 strcmp(error->name, STYXY "NotAuthorized") == 0))
        fuzz_fail(fuzz, "%s refused to root: %s: %s", method ? method->member : "a wrong call",
                  error->name, error->message);
    /* sd-bus repeats an interface that is not there, whatever its length. */
    if (!error->message || error->message[0] == '\0' ||
        (is_styxy_error(error->name) && strlen(error->message) > 8192))
        fuzz_fail(fuzz, "%s has no message of sense", error->name);
}

void answer_check(Pending *pending, sd_bus_message *reply)
{
    Fuzz *fuzz = pending->actor->fuzz;
    const Method *method = pending->method;
    char *wrong = NULL;

    if (sd_bus_message_is_method_error(reply, NULL)) {
        check_error(pending, sd_bus_message_get_error(reply));
        return;
    }
    if (!method)
        return;
    if (strcmp(sd_bus_message_get_signature(reply, TRUE), method->answer) != 0)
        fuzz_fail(fuzz, "%s answered with %s", method->member,
                  sd_bus_message_get_signature(reply, TRUE));
    if (method->administrators && pending->actor->uid != 0)
        fuzz_fail(fuzz, "%s was granted to uid %u", method->member, pending->actor->uid);
    if (pending->proper && method->judge)
        wrong = method->judge(pending, reply);
    fuzz_check(fuzz, method->member, wrong);
}

/* ---- grants ---- */

typedef struct Details {
    Grant *grant;
    gboolean reused;
} Details;

static void on_detail(const char *key, const char *text, guint64 number, void *data)
{
    Details *details = data;

    if (strcmp(key, "protocol") == 0)
        details->grant->protocol = model_protocol(text);
    else if (strcmp(key, "reused") == 0)
        details->reused = number != 0;
}

static char *granted(Pending *pending, sd_bus_message *reply, Grant *grants, guint n)
{
    Fuzz *fuzz = pending->actor->fuzz;
    Details details = {.grant = &pending->grant};
    char *wrong = dict_read(reply, dict_details, on_detail, &details);

    if (!wrong && pending->grant.protocol == 0)
        wrong = g_strdup("there is no protocol");
    for (guint i = 0; !wrong && i < n; i++) {
        Grant grant = pending->grant;

        grant.lease = grants[i].lease;
        grant.port = grants[i].port;
        wrong = model_granted(fuzz->model, &grant, details.reused);
        fuzz->counts.grants++;
    }
    return wrong;
}

char *judge_allocate(Pending *pending, sd_bus_message *reply)
{
    Grant grant = {NULL};

    (void)sd_bus_message_read(reply, "qs", &grant.port, &grant.lease);
    return granted(pending, reply, &grant, 1);
}

char *judge_allocate_socket(Pending *pending, sd_bus_message *reply)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    Grant grant = {NULL};
    int fd = -1;
    guint16 port = 0;

    (void)sd_bus_message_read(reply, "qsh", &grant.port, &grant.lease, &fd);
    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        return g_strdup("the socket is none");
    if (address.ss_family == AF_INET)
        port = ntohs(((const struct sockaddr_in *)(const void *)&address)->sin_port);
    else if (address.ss_family == AF_INET6)
        port = ntohs(((const struct sockaddr_in6 *)(const void *)&address)->sin6_port);
    if (port != grant.port)
        return g_strdup_printf("the socket is bound to %u and the lease on %u", port, grant.port);
    if (fuzz_one_in(pending->actor->fuzz, 3))
        outside_keep(pending->actor->fuzz->outside, fcntl(fd, F_DUPFD_CLOEXEC, 3));
    return granted(pending, reply, &grant, 1);
}

char *judge_allocate_block(Pending *pending, sd_bus_message *reply)
{
    g_autoptr(GArray) grants = g_array_new(FALSE, TRUE, sizeof(Grant));
    Grant grant = {NULL};

    (void)sd_bus_message_enter_container(reply, 'a', "(qs)");
    while (sd_bus_message_read(reply, "(qs)", &grant.port, &grant.lease) > 0) {
        if (grants->len > 0 && grant.port != g_array_index(grants, Grant, grants->len - 1).port + 1)
            return g_strdup("the ports of the block do not follow each other");
        g_array_append_val(grants, grant);
    }
    (void)sd_bus_message_exit_container(reply);
    return granted(pending, reply, (Grant *)(void *)grants->data, grants->len);
}

char *judge_release(Pending *pending, sd_bus_message *reply)
{
    pending->actor->fuzz->counts.releases++;
    return model_released(pending->actor->fuzz->model, pending->text, pending->actor->uid);
}

char *judge_renew(Pending *pending, sd_bus_message *reply)
{
    guint64 expires_usec = 0;

    (void)sd_bus_message_read(reply, "t", &expires_usec);
    /* A minute for a slow machine between its answer and this look at the clock. */
    if (expires_usec + 60 * G_USEC_PER_SEC < (guint64)g_get_real_time())
        return g_strdup_printf("the lease expires at %" G_GUINT64_FORMAT, expires_usec);
    return model_renewed(pending->actor->fuzz->model, pending->text, pending->actor->uid);
}

/* ---- leases ---- */

typedef struct Seen {
    Grant grant;
    gboolean private;
} Seen;

static void on_lease(const char *key, const char *text, guint64 number, void *data)
{
    Seen *seen = data;

    if (strcmp(key, "lease") == 0)
        seen->grant.lease = text;
    else if (strcmp(key, "port") == 0)
        seen->grant.port = (guint16)number;
    else if (strcmp(key, "uid") == 0)
        seen->grant.uid = (uid_t)number;
    else if (strcmp(key, "protocol") == 0)
        seen->grant.protocol = model_protocol(text);
    else if (strcmp(key, "label") == 0 || strcmp(key, "health_url") == 0)
        seen->private = TRUE;
}

char *read_lease(sd_bus_message *m, uid_t viewer, Grant *ret_grant)
{
    Seen seen = {.private = FALSE};
    char *wrong = dict_read(m, dict_lease, on_lease, &seen);

    if (wrong)
        return wrong;
    if (seen.private && viewer != 0 && viewer != seen.grant.uid)
        return g_strdup_printf("uid %u sees what lease %s of uid %u keeps to itself", viewer,
                               seen.grant.lease, seen.grant.uid);
    *ret_grant = seen.grant;
    return NULL;
}

char *judge_get_lease(Pending *pending, sd_bus_message *reply)
{
    Grant grant = {NULL};
    char *wrong = read_lease(reply, pending->actor->uid, &grant);

    if (!wrong && strcmp(grant.lease, pending->text) != 0)
        wrong = g_strdup_printf("asked for %s, got %s", pending->text, grant.lease);
    return wrong ? wrong : model_looked_up(pending->actor->fuzz->model, &grant);
}

char *judge_list(Pending *pending, sd_bus_message *reply)
{
    guint32 last = 0;
    char *wrong = NULL;

    (void)sd_bus_message_enter_container(reply, 'a', "a{sv}");
    while (!wrong && sd_bus_message_at_end(reply, FALSE) == 0) {
        Grant grant = {NULL};

        wrong = read_lease(reply, pending->actor->uid, &grant);
        if (!wrong && grant.port < last)
            wrong = g_strdup("ports go back");
        last = grant.port;
        if (!wrong)
            wrong = model_looked_up(pending->actor->fuzz->model, &grant);
    }
    return wrong;
}

/* ---- the rest ---- */

char *judge_check_port(Pending *pending, sd_bus_message *reply)
{
    int available = 0;

    (void)sd_bus_message_read(reply, "b", &available);
    return dict_read(reply, dict_holder, NULL, NULL);
}

static void on_socket(const char *key, const char *text, guint64 number, void *data)
{
    if (strcmp(key, "port") == 0)
        *(guint *)data = (guint)number;
}

char *judge_scan(Pending *pending, sd_bus_message *reply)
{
    char *wrong = NULL;
    guint port = 0;

    (void)sd_bus_message_enter_container(reply, 'a', "a{sv}");
    while (!wrong && sd_bus_message_at_end(reply, FALSE) == 0) {
        wrong = dict_read(reply, dict_socket, on_socket, &port);
        if (!wrong && (port < pending->number || port > pending->number2))
            wrong = g_strdup_printf("port %u is not between %u and %u", port, pending->number,
                                    pending->number2);
    }
    return wrong;
}

char *judge_suggest(Pending *pending, sd_bus_message *reply)
{
    g_autofree guint8 *seen = g_malloc0(65536);
    const guint16 *ports = NULL;
    size_t bytes = 0;

    (void)sd_bus_message_read_array(reply, 'q', (const void **)&ports, &bytes);
    if (bytes / sizeof(guint16) > pending->number)
        return g_strdup("more ports than were asked for");
    for (size_t i = 0; i < bytes / sizeof(guint16); i++)
        if (ports[i] == 0 || seen[ports[i]]++)
            return g_strdup_printf("port %u is suggested twice, or none", ports[i]);
    return NULL;
}

char *judge_cleanup(Pending *pending, sd_bus_message *reply)
{
    const char *lease = NULL, *reason = NULL;
    guint16 port = 0;

    (void)sd_bus_message_enter_container(reply, 'a', "(qss)");
    while (sd_bus_message_read(reply, "(qss)", &port, &lease, &reason) > 0)
        if (!model_is_reason(reason))
            return g_strdup_printf("lease %s was released as %s", lease, reason);
    return NULL;
}

static char *read_steps(sd_bus_message *m)
{
    static const char *const steps[] = {"validate-state",    "validate-config", "clean-orphans",
                                        "verify-singletons", "rebuild-indices", NULL};
    static const char *const results[] = {"ok", "repaired", "warning", NULL};
    const char *step = NULL, *result = NULL;
    char *wrong = NULL;

    (void)sd_bus_message_enter_container(m, 'a', "(ssa{sv})");
    while (!wrong && sd_bus_message_enter_container(m, 'r', "ssa{sv}") > 0) {
        (void)sd_bus_message_read(m, "ss", &step, &result);
        if (!g_strv_contains(steps, step) || !g_strv_contains(results, result))
            return g_strdup_printf("the recovery step %s is %s", step, result);
        wrong = dict_read(m, dict_step, NULL, NULL);
        (void)sd_bus_message_exit_container(m);
    }
    return wrong;
}

char *judge_recover(Pending *pending, sd_bus_message *reply)
{
    int ok = FALSE;

    (void)sd_bus_message_read(reply, "b", &ok);
    return ok ? read_steps(reply) : g_strdup("a step has failed");
}

char *judge_report(Pending *pending, sd_bus_message *reply)
{
    return dict_read(reply, dict_report, NULL, NULL);
}
