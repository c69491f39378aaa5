/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/names.h"

#include <string.h>

/* Every value has its word of the interface, and every other text is refused and changes nothing.
 */
#define TEST_NAMES(Type, prefix, from, to, ...)                                    \
    static void test_##prefix(void)                                                \
    {                                                                              \
        static const char *const words[] = {__VA_ARGS__};                          \
        static const char *const others[] = {NULL,   "",    " ",        "x",       \
                                             "tcp ", "Tcp", "release-", "none\n"}; \
                                                                                   \
        g_assert_cmpint((int)G_N_ELEMENTS(words), ==, (to) - (from));              \
        for (int i = (from); i < (to); i++) {                                      \
            const char *word = words[i - (from)];                                  \
            g_autofree char *upper = g_ascii_strup(word, -1);                      \
            g_autofree char *cut = g_strndup(word, strlen(word) - 1);              \
            Type value = (Type)-1;                                                 \
                                                                                   \
            g_assert_cmpstr(prefix##_to_string((Type)i), ==, word);                \
            g_assert_false(prefix##_from_string(upper, &value));                   \
            g_assert_false(prefix##_from_string(cut, &value));                     \
            g_assert_cmpint((int)value, ==, -1);                                   \
            g_assert_true(prefix##_from_string(word, &value));                     \
            g_assert_cmpint((int)value, ==, i);                                    \
        }                                                                          \
        for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {                        \
            Type value = (Type)-1;                                                 \
                                                                                   \
            g_assert_false(prefix##_from_string(others[i], &value));               \
            g_assert_cmpint((int)value, ==, -1);                                   \
        }                                                                          \
    }

TEST_NAMES(Protocol, protocol, PROTOCOL_TCP, PROTOCOL_BOTH + 1, "tcp", "udp", "both")
TEST_NAMES(Lifetime, lifetime, 0, _LIFETIME_MAX, "auto", "process", "client", "persistent")
TEST_NAMES(Hold, hold, 0, _HOLD_MAX, "none", "soft")
TEST_NAMES(Health, health, 0, _HEALTH_MAX, "reserved", "active", "failing", "dormant",
           "quarantined")
TEST_NAMES(OnUnhealthy, on_unhealthy, 0, _ON_UNHEALTHY_MAX, "release", "restart", "notify")
TEST_NAMES(Reason, reason, 0, _REASON_MAX, "released", "process-exited", "not-in-use",
           "never-bound", "unhealthy", "expired", "client-gone", "orphaned", "duplicate-singleton",
           "rebooted")

static void test_limits(void)
{
    static const struct {
        gboolean (*is_valid)(const char *text);
        size_t length_max;
        const char *allowed; /* besides letters and digits */
    } kinds[] = {
        {service_type_is_valid, 50, "-"},
        {label_is_valid, 100, "_.-"},
        {instance_is_valid, 100, "_-"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        char text[128];

        g_assert_false(kinds[i].is_valid(NULL));
        g_assert_false(kinds[i].is_valid(""));
        for (int c = 1; c < 256; c++) {
            gboolean allowed = (c < 128 && g_ascii_isalnum((char)c)) || strchr(kinds[i].allowed, c);

            text[0] = (char)c;
            text[1] = '\0';
            g_assert_cmpint(kinds[i].is_valid(text), ==, allowed);
            text[0] = 'a';
            text[1] = (char)c;
            text[2] = '\0';
            g_assert_cmpint(kinds[i].is_valid(text), ==, allowed);
        }
        memset(text, 'z', sizeof(text));
        text[kinds[i].length_max] = '\0';
        g_assert_true(kinds[i].is_valid(text));
        text[kinds[i].length_max] = 'z';
        text[kinds[i].length_max + 1] = '\0';
        g_assert_false(kinds[i].is_valid(text));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/names/protocol", test_protocol);
    g_test_add_func("/names/lifetime", test_lifetime);
    g_test_add_func("/names/hold", test_hold);
    g_test_add_func("/names/health", test_health);
    g_test_add_func("/names/on-unhealthy", test_on_unhealthy);
    g_test_add_func("/names/reason", test_reason);
    g_test_add_func("/names/limits", test_limits);
    return g_test_run();
}
