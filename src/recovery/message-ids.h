/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The MESSAGE_ID of every kind of line that the daemon writes at notice or above, and of the more
 * frequent ones at info. Each has an entry in data/catalog/ that tells a person what it means and
 * what there is to do; a test matches the two. An id is random ("journalctl --new-id128") and never
 * changes: filters and alarms of others name it.
 */

/* leases */
#define MESSAGE_PORT_GRANTED "8f646ccc0dbcb408fb2958546e58b26e"
#define MESSAGE_PORT_RELEASED "d4aaf3c40d2a254616200da54401349e"
#define MESSAGE_STALE_RELEASED "e89d7eac97e7837150e7fd8d02ef8640"
#define MESSAGE_PORT_CONFLICT "289c93035b22e595fe1126b0c2cd6aba"
#define MESSAGE_NO_PORT "6d7f171d92accbdddde37af5acebf201"
#define MESSAGE_LINES_SUPPRESSED "f2570f9fad3d7a0d3e34aef27f2ce610"

/* their health */
#define MESSAGE_HEALTH_CHANGED "586aae44d2b029e119589a791303efa5"
#define MESSAGE_PROCESS_EXITED "42d5c46b1d0ef587242db2dc89b6626f"
#define MESSAGE_HANDOVER "95b97fab910574d984cc3904d27fd443"
#define MESSAGE_SERVICE_RESTARTED "b6e80fd07990cb10d158a0c2bc5ea92a"
#define MESSAGE_RESTART_FAILED "777f84ad2e383f29643bb8d2235cbe6b"
#define MESSAGE_MASS_FAILURE "dc26cd7cc3f3df95165f4a85b1d53f84"
#define MESSAGE_HTTP_UNKNOWN "b52a7b66c6f045818f61fe567a015cf8"
#define MESSAGE_SWEEP_FAILED "1312c168edbf27fe3162f489c66e5b2c"
#define MESSAGE_WATCH_FAILED "076c9f846dc12f15ff70459e95fd78f3"

/* the state and its recovery */
#define MESSAGE_STORE_FAILED "016e1f34d1879a8988c8537e2bd28cd1"
#define MESSAGE_STORE_WORKS_AGAIN "8d50846cf99701ccc8298573dfc2d5ff"
#define MESSAGE_SNAPSHOT_FAILED "70dd79420566422cbfa0ce4ecca0a152"
#define MESSAGE_RECOVERY_STARTED "ced578d0a9434c78b7c1d2bfec057e9c"
#define MESSAGE_RECOVERY_FINDING "2f68a36c6e2f2b5ee4d335abee3feb5e"
#define MESSAGE_RECOVERY_FINISHED "ecef6428f7d57a34dfdfef4b5427d4d7"

/* the daemon itself */
#define MESSAGE_CONFIGURATION_LOADED "4b89103cce8d6baac229365ca8265ec2"
#define MESSAGE_CONFIGURATION_REFUSED "093d17490d29d465b4deded53897df84"
#define MESSAGE_CONFIGURATION_INVALID "0ab0c87d1ebc40349f3e849248cd0e8e"
#define MESSAGE_DAEMON_FAILED "ef66bdf5d8454ff5a747919d143cd319"
#define MESSAGE_BUS_UNREACHABLE "7b4d4ee074ca4a749252d319c2ab0609"
#define MESSAGE_CALLER_NOT_SERVED "0dd6901ca9f5469aaf3532c7d334d7a4"
#define MESSAGE_SIGNAL_LOST "797f6777a6274daeb3d7846ae49ee509"
#define MESSAGE_CONNECTIONS_PAUSED "044a8acb839042378f54de215c966af6"
#define MESSAGE_DESCRIPTOR_UNKNOWN "a271e868cd3741c49786ee23f0822e49"
#define MESSAGE_HOLD_NOT_KEPT "8028d6b79d80480780d887b6479bde78"
#define MESSAGE_SETTING_IGNORED "83e80ed5c4c041b7bf818aa3176e6e2b"
#define MESSAGE_LIBRARY "13682cee35484c73a608be0b8fd366b6"
