/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The documentation of the interface against the running one: neither may know more. */
#include "fixture.h"

#include <gio/gio.h>
#include <string.h>

#include "bus/errors.h"
#include "bus/ports-iface.h"

static const char *path_of_xml;

static char *read_documentation(void)
{
    g_autoptr(GError) error = NULL;
    char *text = NULL;

    (void)g_file_get_contents(path_of_xml, &text, NULL, &error);
    g_assert_no_error(error);
    return text;
}

static void append_args(GString *text, const char *direction, GDBusArgInfo **args)
{
    for (; args && *args; args++)
        g_string_append_printf(text, " %s %s %s", direction, (*args)->signature, (*args)->name);
}

static int compare_lines(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Every member as a line, sorted, so that the order in the two texts does not matter. */
static char *normalise(const char *xml)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GDBusNodeInfo) node = g_dbus_node_info_new_for_xml(xml, &error);
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    GDBusInterfaceInfo *interface = NULL;

    g_assert_no_error(error);
    interface = g_dbus_node_info_lookup_interface(node, PORTS_INTERFACE);
    g_assert_nonnull(interface);
    for (GDBusMethodInfo **m = interface->methods; *m; m++) {
        GString *line = g_string_new("method ");

        g_string_append(line, (*m)->name);
        append_args(line, "in", (*m)->in_args);
        append_args(line, "out", (*m)->out_args);
        g_ptr_array_add(lines, g_string_free(line, FALSE));
    }
    for (GDBusSignalInfo **s = interface->signals; *s; s++) {
        GString *line = g_string_new("signal ");

        g_string_append(line, (*s)->name);
        append_args(line, "out", (*s)->args);
        g_ptr_array_add(lines, g_string_free(line, FALSE));
    }
    for (GDBusPropertyInfo **p = interface->properties; *p; p++) {
        const char *changes = g_dbus_annotation_info_lookup(
            (*p)->annotations, "org.freedesktop.DBus.Property.EmitsChangedSignal");

        g_ptr_array_add(lines, g_strdup_printf("property %s %s %u %s", (*p)->name, (*p)->signature,
                                               (*p)->flags, changes ? changes : "true"));
    }
    g_ptr_array_sort(lines, compare_lines);
    g_ptr_array_add(lines, NULL);
    return g_strjoinv("\n", (char **)lines->pdata);
}

static void compare(const char *address)
{
    g_autoptr(sd_bus) bus = fixture_connect(address);
    g_autoptr(sd_bus_message) reply = NULL;
    g_autofree char *documented = read_documentation();
    g_autofree char *expected = normalise(documented);
    g_autofree char *found = NULL;
    const char *xml = NULL;

    g_assert_cmpint(sd_bus_call_method(bus, PORTS_NAME, PORTS_PATH,
                                       "org.freedesktop.DBus.Introspectable", "Introspect", NULL,
                                       &reply, ""),
                    >=, 0);
    g_assert_cmpint(sd_bus_message_read(reply, "s", &xml), >, 0);
    found = normalise(xml);
    g_assert_cmpstr(found, ==, expected);
}

static void test_live(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_BROKER, NULL);

    compare(fixture->bus_address);
    compare(fixture->direct_address);
}

/* Returns: the comment that ends right before @position of @text. */
static char *comment_before(const char *text, const char *position)
{
    const char *end = g_strrstr_len(text, position - text, "-->");
    const char *start = end ? g_strrstr_len(text, end - text, "<!--") : NULL;

    if (!start || strspn(end + 3, " \n") != (size_t)(position - end - 3))
        return NULL;
    return g_strndup(start, (gsize)(end - start));
}

static void check_documented(const char *text, const char *kind, const char *name,
                             GDBusArgInfo **args, GDBusArgInfo **more_args)
{
    g_autofree char *element = g_strdup_printf("<%s name=\"%s\"", kind, name);
    g_autofree char *title = g_strdup_printf("\n        %s:\n", name);
    const char *position = strstr(text, element);
    g_autofree char *comment = position ? comment_before(text, position) : NULL;
    GDBusArgInfo **both[] = {args, more_args};

    if (!comment || !strstr(comment, title))
        g_error("%s %s has no comment of its own", kind, name);
    for (guint i = 0; i < G_N_ELEMENTS(both); i++)
        for (GDBusArgInfo **arg = both[i]; arg && *arg; arg++) {
            g_autofree char *line = g_strdup_printf("\n        @%s: ", (*arg)->name);

            if (!strstr(comment, line))
                g_error("%s %s: argument %s is not documented", kind, name, (*arg)->name);
        }
}

static void test_all_documented(void)
{
    g_autofree char *text = read_documentation();
    g_autoptr(GDBusNodeInfo) node = g_dbus_node_info_new_for_xml(text, NULL);
    GDBusInterfaceInfo *interface = g_dbus_node_info_lookup_interface(node, PORTS_INTERFACE);

    for (GDBusMethodInfo **m = interface->methods; *m; m++)
        check_documented(text, "method", (*m)->name, (*m)->in_args, (*m)->out_args);
    for (GDBusSignalInfo **s = interface->signals; *s; s++)
        check_documented(text, "signal", (*s)->name, (*s)->args, NULL);
    for (GDBusPropertyInfo **p = interface->properties; *p; p++)
        check_documented(text, "property", (*p)->name, NULL, NULL);
}

static void test_words_documented(void)
{
    g_autofree char *text = read_documentation();

    for (int outcome = OUTCOME_OK + 1; outcome < _OUTCOME_MAX; outcome++) {
        g_autofree char *term = g_strdup_printf("<term>%s (", bus_error_name((Outcome)outcome));

        if (!strstr(text, term))
            g_error("%s is not documented", bus_error_name((Outcome)outcome));
    }
    for (int reason = 0; reason < _REASON_MAX; reason++)
        g_assert_nonnull(strstr(text, reason_to_string((Reason)reason)));
    for (int health = 0; health < _HEALTH_MAX; health++)
        g_assert_nonnull(strstr(text, health_to_string((Health)health)));
}

int main(int argc, char **argv)
{
    fixture_init(&argc, &argv);
    g_assert_cmpint(argc, ==, 2);
    path_of_xml = argv[1];
    g_test_add_func("/bus/introspection/live", test_live);
    g_test_add_func("/bus/introspection/all-documented", test_all_documented);
    g_test_add_func("/bus/introspection/words-documented", test_words_documented);
    return g_test_run();
}
