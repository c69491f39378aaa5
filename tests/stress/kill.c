/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * kill -9 at random moments, under load from eight clients. After each:
 *
 *   - every lease that a client was told of is there, as it was told
 *   - no lease whose release was answered is there
 *   - no port is anybody's twice, then or in any answer
 *   - of a block there is all or nothing
 *   - the files, as the kill left them, say so too, before anybody has repaired anything
 *
 * Environment: STYXY_STRESS_KILLS (200 unless set), STYXY_STRESS_SEED (another one each time unless
 * set; it is printed first).
 */
#include <stdlib.h>

#include "client.h"

#define CLIENTS 8
#define KILLS 200

/* Usually a client has got some work done; sometimes the daemon has not even recovered. */
#define LIFE_USEC_MIN (1 * G_TIME_SPAN_MILLISECOND)
#define LIFE_USEC_MAX (150 * G_TIME_SPAN_MILLISECOND)
#define START_USEC_MAX (40 * G_TIME_SPAN_MILLISECOND)
#define EARLY_ONE_IN 8

static const char configuration[] =
    "{ \"service_types\": {\n"
    "    \"load\": { \"port_range\": [20000, 20999], \"instance_behavior\": \"multi\" } },\n"
    "  \"auto_allocation\": { \"enabled\": true, \"port_range\": [22000, 23999],\n"
    "                       \"chunk_size\": 50 },\n"
    "  \"recovery\": { \"health_monitoring\": { \"enabled\": false },\n"
    /* kills during recovery are what this test does: they are no crash loop */
    "                \"system_recovery\": { \"max_recovery_attempts\": 100 } },\n"
    "  \"limits\": { \"leases_per_user\": 65000 } }\n";

static guint32 number_from(const char *variable, guint32 otherwise)
{
    const char *text = g_getenv(variable);
    guint64 number = otherwise;

    if (text && !g_ascii_string_to_unsigned(text, 10, 1, G_MAXUINT32, &number, NULL))
        g_error("%s is no number: %s", variable, text);
    return (guint32)number;
}

static void kill_now(World *world)
{
    if (!world_kill(world))
        world_fail(world, "the daemon has ended by itself");
}

static void compare(const World *world, Facts *facts)
{
    sd_bus_message *reply = NULL;
    g_autoptr(GArray) leases = list_leases(world, &reply);
    g_autofree char *wrong = facts_compare(facts, leases);

    sd_bus_message_unref(reply);
    if (wrong)
        world_fail(world, "%s", wrong);
}

static void check_files(const World *world, Facts *facts)
{
    g_autofree char *wrong = facts_check_files(facts, world->state);

    if (wrong)
        world_fail(world, "%s", wrong);
}

/* Lives up to the time at which it is to be killed, whatever the clients do. */
static void live(GRand *dice)
{
    g_usleep((gulong)g_rand_int_range(dice, LIFE_USEC_MIN, LIFE_USEC_MAX));
}

int main(int argc, char **argv)
{
    guint32 kills = number_from("STYXY_STRESS_KILLS", KILLS);
    guint32 seed = number_from("STYXY_STRESS_SEED", g_random_int());
    g_autoptr(GRand) dice = g_rand_new_with_seed(seed);
    gint64 started_usec = g_get_monotonic_time();
    Facts *facts = facts_new();
    FactsCounts counts;
    World *world;
    Load *load;

    if (argc != 2)
        g_error("usage: %s STYXYD", argv[0]);
    g_print("STYXY_STRESS_SEED=%u\n", seed);
    world = world_new(argv[1], configuration);
    load = load_new(world, facts, CLIENTS, seed);
    for (guint32 i = 0; i < kills; i++) {
        load_await_waiting(load);
        world_spawn(world);
        if (g_rand_int_range(dice, 0, EARLY_ONE_IN) == 0) {
            g_usleep((gulong)g_rand_int_range(dice, 0, START_USEC_MAX));
            kill_now(world);
            check_files(world, facts);
            continue;
        }
        world_await_ready(world);
        compare(world, facts);
        load_open_gate(load);
        live(dice);
        kill_now(world);
        load_await_waiting(load);
        check_files(world, facts);
    }
    world_spawn(world);
    world_await_ready(world);
    compare(world, facts);
    kill_now(world);
    load_free(load);
    world_free(world, TRUE);
    counts = facts_counts(facts);
    g_print("%u kills in %.1f s: %u grants, %u releases, %u calls without an answer, of which %u "
            "grants came true; nothing lost, nothing twice\n",
            kills, (double)(g_get_monotonic_time() - started_usec) / G_USEC_PER_SEC, counts.granted,
            counts.released, counts.unanswered, counts.came_true);
    facts_free(facts);
    /* A load that gets nothing done would find nothing wrong. */
    return counts.granted > 10 * kills && counts.unanswered > kills / 4 ? EXIT_SUCCESS
                                                                        : EXIT_FAILURE;
}
