/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/ports-iface.h"

#include "bus/ports-methods.h"

/*
 * Every method is open to everybody here (SD_BUS_VTABLE_UNPRIVILEGED): without that, sd-bus would
 * ask for the sender's capabilities itself, in a call that blocks. bus/authority decides instead.
 */
#define OPEN SD_BUS_VTABLE_UNPRIVILEGED

static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),

    SD_BUS_METHOD_WITH_ARGS("Allocate", SD_BUS_ARGS("s", service_type, "a{sv}", options),
                            SD_BUS_RESULT("q", port, "s", lease, "a{sv}", details), ports_allocate,
                            OPEN),
    SD_BUS_METHOD_WITH_ARGS("AllocateSocket", SD_BUS_ARGS("s", service_type, "a{sv}", options),
                            SD_BUS_RESULT("q", port, "s", lease, "h", socket, "a{sv}", details),
                            ports_allocate_socket, OPEN),
    SD_BUS_METHOD_WITH_ARGS(
        "AllocateBlock", SD_BUS_ARGS("s", service_type, "q", count, "a{sv}", options),
        SD_BUS_RESULT("a(qs)", leases, "a{sv}", details), ports_allocate_block, OPEN),
    SD_BUS_METHOD_WITH_ARGS("Release", SD_BUS_ARGS("s", lease), SD_BUS_NO_RESULT, ports_release,
                            OPEN),
    SD_BUS_METHOD_WITH_ARGS("ReleasePort", SD_BUS_ARGS("q", port, "s", protocol), SD_BUS_NO_RESULT,
                            ports_release_port, OPEN),
    SD_BUS_METHOD_WITH_ARGS("ReleaseInstance", SD_BUS_ARGS("s", instance),
                            SD_BUS_RESULT("u", count), ports_release_instance, OPEN),
    SD_BUS_METHOD_WITH_ARGS("Renew", SD_BUS_ARGS("s", lease), SD_BUS_RESULT("t", expires_usec),
                            ports_renew, OPEN),
    SD_BUS_METHOD_WITH_ARGS("GetLease", SD_BUS_ARGS("s", lease), SD_BUS_RESULT("a{sv}", lease),
                            ports_get_lease, OPEN),
    SD_BUS_METHOD_WITH_ARGS("List", SD_BUS_ARGS("a{sv}", filter), SD_BUS_RESULT("aa{sv}", leases),
                            ports_list, OPEN),
    SD_BUS_METHOD_WITH_ARGS("CheckPort", SD_BUS_ARGS("q", port, "s", protocol),
                            SD_BUS_RESULT("b", available, "a{sv}", details), ports_check_port,
                            OPEN),
    SD_BUS_METHOD_WITH_ARGS("Scan", SD_BUS_ARGS("q", first, "q", last),
                            SD_BUS_RESULT("aa{sv}", sockets), ports_scan, OPEN),
    SD_BUS_METHOD_WITH_ARGS("Suggest", SD_BUS_ARGS("s", service_type, "u", count),
                            SD_BUS_RESULT("aq", ports), ports_suggest, OPEN),
    SD_BUS_METHOD_WITH_ARGS("Cleanup", SD_BUS_ARGS("a{sv}", options),
                            SD_BUS_RESULT("a(qss)", released), ports_cleanup, OPEN),
    SD_BUS_METHOD_WITH_ARGS("Recover", SD_BUS_ARGS("a{sv}", options),
                            SD_BUS_RESULT("b", ok, "a(ssa{sv})", steps), ports_recover, OPEN),
    SD_BUS_METHOD_WITH_ARGS("GetRecoveryReport", SD_BUS_NO_ARGS, SD_BUS_RESULT("a{sv}", report),
                            ports_get_recovery_report, OPEN),
    SD_BUS_METHOD_WITH_ARGS("GetMetrics", SD_BUS_NO_ARGS, SD_BUS_RESULT("a{st}", metrics),
                            ports_get_metrics, OPEN),
    SD_BUS_METHOD_WITH_ARGS("Reload", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, ports_reload, OPEN),
    SD_BUS_METHOD_WITH_ARGS("Subscribe", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, ports_subscribe, OPEN),
    SD_BUS_METHOD_WITH_ARGS("Unsubscribe", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, ports_unsubscribe,
                            OPEN),

    SD_BUS_SIGNAL_WITH_ARGS("PortAllocated",
                            SD_BUS_ARGS("s", lease, "q", port, "s", service_type, "a{sv}", details),
                            0),
    SD_BUS_SIGNAL_WITH_ARGS("PortReleased",
                            SD_BUS_ARGS("s", lease, "q", port, "s", reason, "a{sv}", details), 0),
    SD_BUS_SIGNAL_WITH_ARGS("PortConflict",
                            SD_BUS_ARGS("q", port, "s", service_type, "a{sv}", details), 0),
    SD_BUS_SIGNAL_WITH_ARGS("HealthChanged",
                            SD_BUS_ARGS("s", lease, "q", port, "s", health, "a{sv}", details), 0),
    SD_BUS_SIGNAL_WITH_ARGS("StaleReleased",
                            SD_BUS_ARGS("s", lease, "q", port, "s", reason, "a{sv}", details), 0),
    SD_BUS_SIGNAL_WITH_ARGS("ServiceRestarted",
                            SD_BUS_ARGS("s", lease, "q", port, "s", unit, "a{sv}", details), 0),
    SD_BUS_SIGNAL_WITH_ARGS("RecoveryStarted", SD_BUS_ARGS("s", trigger), 0),
    SD_BUS_SIGNAL_WITH_ARGS("RecoveryStep", SD_BUS_ARGS("s", step, "s", result, "a{sv}", details),
                            0),
    SD_BUS_SIGNAL_WITH_ARGS("RecoveryFinished", SD_BUS_ARGS("b", ok, "a{sv}", summary), 0),

    SD_BUS_PROPERTY("Version", "s", ports_get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    SD_BUS_PROPERTY("State", "s", ports_get_state, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_PROPERTY("StateReason", "s", ports_get_state_reason, 0,
                    SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    /* Another with nearly every call; whoever follows it has the signals of the leases. */
    SD_BUS_PROPERTY("LeaseCount", "u", ports_get_lease_count, 0, 0),
    SD_BUS_PROPERTY("ServiceTypes", "a{sa{sv}}", ports_get_service_types, 0,
                    SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_PROPERTY("AutoAllocation", "a{sv}", ports_get_auto_allocation, 0,
                    SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_PROPERTY("ConfigFiles", "as", ports_get_config_files, 0,
                    SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),

    SD_BUS_VTABLE_END,
};

int ports_export(Connection *connection)
{
    return sd_bus_add_object_vtable(connection->bus, NULL, PORTS_PATH, PORTS_INTERFACE, vtable,
                                    connection);
}
