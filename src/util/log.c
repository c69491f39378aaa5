/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The fields that log_write adds itself: MESSAGE, PRIORITY, SYSLOG_IDENTIFIER, MESSAGE_ID. */
#define OWN_FIELDS 4
#define CALLER_FIELDS_MAX 24

static struct {
    const char *identifier;
    gboolean to_journal;
    int max_priority;
    const char *library_message_id;
    LogWriter writer;
    void *writer_data;
} log_state = {.identifier = "styxy", .max_priority = LOG_INFO};

static const char *const priority_digit[] = {"0", "1", "2", "3", "4", "5", "6", "7"};

/* A control character could end the line or drive the terminal of whoever reads it. */
static char *escape_control(const char *text)
{
    GString *escaped = NULL;
    const char *p;

    for (p = text; *p; p++)
        if (g_ascii_iscntrl(*p))
            break;
    if (!*p)
        return NULL;

    escaped = g_string_sized_new(strlen(text) + 16);
    for (p = text; *p; p++) {
        if (g_ascii_iscntrl(*p))
            g_string_append_printf(escaped, "\\x%02x", (unsigned char)*p);
        else
            g_string_append_c(escaped, *p);
    }
    return g_string_free(escaped, FALSE);
}

static void write_stderr(int priority, const char *message)
{
    static const char *const word[] = {
        "emergency: ", "alert: ", "critical: ", "error: ", "warning: ", "", "", "debug: "};

    fprintf(stderr, "%s: %s%s\n", log_state.identifier, word[priority], message);
    (void)fflush(stderr);
}

static void emit(int priority, const GLogField *fields, size_t n_fields, const char *message)
{
    if (log_state.writer) {
        log_state.writer(priority, fields, n_fields, log_state.writer_data);
        return;
    }
    if (log_state.to_journal &&
        g_log_writer_journald(G_LOG_LEVEL_MESSAGE, fields, n_fields, NULL) == G_LOG_WRITER_HANDLED)
        return;
    write_stderr(priority, message);
}

static int priority_of_level(GLogLevelFlags level)
{
    if (level & G_LOG_LEVEL_ERROR)
        return LOG_CRIT;
    if (level & G_LOG_LEVEL_CRITICAL)
        return LOG_ERR;
    if (level & G_LOG_LEVEL_WARNING)
        return LOG_WARNING;
    if (level & G_LOG_LEVEL_MESSAGE)
        return LOG_NOTICE;
    if (level & G_LOG_LEVEL_INFO)
        return LOG_INFO;
    return LOG_DEBUG;
}

static char *text_of_field(const GLogField *fields, gsize n_fields, const char *key)
{
    for (gsize i = 0; i < n_fields; i++)
        if (strcmp(fields[i].key, key) == 0)
            return fields[i].length < 0 ? g_strdup(fields[i].value)
                                        : g_strndup(fields[i].value, (gsize)fields[i].length);
    return NULL;
}

static GLogWriterOutput glib_writer(GLogLevelFlags level, const GLogField *fields, gsize n_fields,
                                    gpointer data)
{
    g_autofree char *text = text_of_field(fields, n_fields, "MESSAGE");
    g_autofree char *domain = text_of_field(fields, n_fields, "GLIB_DOMAIN");
    LogField field = {"GLIB_DOMAIN", domain};
    int priority = priority_of_level(level);

    if (text)
        log_write(priority, priority <= LOG_NOTICE ? log_state.library_message_id : NULL, &field, 1,
                  "%s", text);
    return G_LOG_WRITER_HANDLED;
}

void log_set_target(LogTarget target)
{
    /* GLib compares device and inode of stderr with $JOURNAL_STREAM: a redirected stderr wins. */
    log_state.to_journal = target == LOG_TARGET_JOURNAL ||
                           (target == LOG_TARGET_AUTO && g_log_writer_is_journald(STDERR_FILENO));
}

LogTarget log_get_target(void)
{
    return log_state.to_journal ? LOG_TARGET_JOURNAL : LOG_TARGET_STDERR;
}

const char *log_get_identifier(void)
{
    return log_state.identifier;
}

void log_init(const char *identifier, LogTarget target, int max_priority)
{
    log_state.identifier = identifier;
    log_state.max_priority = max_priority;
    log_set_target(target);
    g_log_set_writer_func(glib_writer, NULL, NULL);
}

void log_set_library_message_id(const char *message_id)
{
    log_state.library_message_id = message_id;
}

void log_set_max_priority(int max_priority)
{
    log_state.max_priority = CLAMP(max_priority, LOG_EMERG, LOG_DEBUG);
}

int log_get_max_priority(void)
{
    return log_state.max_priority;
}

void log_set_writer(LogWriter writer, void *data)
{
    log_state.writer = writer;
    log_state.writer_data = data;
}

void log_write(int priority, const char *message_id, const LogField *fields, size_t n_fields,
               const char *format, ...)
{
    GLogField out[OWN_FIELDS + CALLER_FIELDS_MAX];
    g_autofree char *formatted = NULL;
    g_autofree char *escaped = NULL;
    const char *message = NULL;
    int saved_errno = errno;
    size_t n = 0;
    va_list ap;

    g_assert(priority >= LOG_EMERG && priority <= LOG_DEBUG);
    g_assert(n_fields <= CALLER_FIELDS_MAX);
    if (priority > log_state.max_priority)
        return;

    va_start(ap, format);
    formatted = g_strdup_vprintf(format, ap);
    va_end(ap);
    escaped = escape_control(formatted);
    message = escaped ? escaped : formatted;

    out[n++] = (GLogField){"MESSAGE", message, -1};
    out[n++] = (GLogField){"PRIORITY", priority_digit[priority], -1};
    out[n++] = (GLogField){"SYSLOG_IDENTIFIER", log_state.identifier, -1};
    if (message_id)
        out[n++] = (GLogField){"MESSAGE_ID", message_id, -1};
    for (size_t i = 0; i < n_fields; i++)
        if (fields[i].value)
            out[n++] =
                (GLogField){fields[i].name, fields[i].value, (gssize)strlen(fields[i].value)};

    emit(priority, out, n, message);
    errno = saved_errno;
}
