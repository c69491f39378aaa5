/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <syslog.h>

/*
 * One call writes one structured line, to journald or to stderr.
 *
 * Fields travel with their length, so a newline in a value that came from a client cannot forge a
 * second field. Names of fields and MESSAGE_IDs belong to the caller: this module knows no word of
 * the domain.
 */

/** LogField: one journal field. @name is upper case, @value any UTF-8 text; NULL leaves it out. */
typedef struct LogField {
    const char *name;
    const char *value;
} LogField;

typedef enum LogTarget {
    LOG_TARGET_AUTO,    /* journald, or stderr where that is a terminal, a pipe or a file */
    LOG_TARGET_JOURNAL, /* journald */
    LOG_TARGET_STDERR,  /* stderr */
} LogTarget;

/**
 * LogWriter: takes the place of journald and stderr, for tests.
 * @fields holds @n_fields entries, MESSAGE and PRIORITY among them; borrowed for the call.
 */
typedef void (*LogWriter)(int priority, const GLogField *fields, size_t n_fields, void *data);

/**
 * log_init: chooses where lines go and how many of them.
 * @identifier: SYSLOG_IDENTIFIER, a static string.
 * @max_priority: the least urgent level written, LOG_ERR to LOG_DEBUG of syslog(3).
 *
 * GLib's own messages (g_warning and kin) go the same way from here on. Call once, before threads.
 */
void log_init(const char *identifier, LogTarget target, int max_priority);

/** log_set_library_message_id: of GLib's own messages at notice or above; static, NULL = none. */
void log_set_library_message_id(const char *message_id);

/** log_set_max_priority, log_get_max_priority: the level at run time, LOG_ERR to LOG_DEBUG. */
void log_set_max_priority(int max_priority);
int log_get_max_priority(void);

/**
 * log_set_target: where lines go from here on. log_get_target: where they go, LOG_TARGET_JOURNAL or
 * LOG_TARGET_STDERR. log_get_identifier: as log_init() got it.
 */
void log_set_target(LogTarget target);
LogTarget log_get_target(void);
const char *log_get_identifier(void);

/** log_set_writer: sends all lines to @writer; NULL undoes it. */
void log_set_writer(LogWriter writer, void *data);

/**
 * log_write: writes one line.
 * @priority: LOG_EMERG to LOG_DEBUG.
 * @message_id: 32 hex digits of the catalog entry, or NULL.
 * @fields: @n_fields entries, may be NULL when that is 0.
 *
 * Control characters in the message are escaped. Never fails and never sets errno: a log line that
 * cannot be delivered is lost. May block while stderr or journald does.
 */
void log_write(int priority, const char *message_id, const LogField *fields, size_t n_fields,
               const char *format, ...) G_GNUC_PRINTF(5, 6);

/* What is worth more than info is worth a MESSAGE_ID. */
#define log_info(...) log_write(LOG_INFO, NULL, NULL, 0, __VA_ARGS__)
#define log_debug(...) log_write(LOG_DEBUG, NULL, NULL, 0, __VA_ARGS__)
