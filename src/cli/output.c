/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <json-glib/json-glib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/text.h"
#include "util/fd.h"

static struct {
    const Arguments *args; /* borrowed */
    pid_t pager;           /* 0 = none */
    gboolean terminal;     /* of stdout, before a pager took its place */
    gboolean colours;
    guint width; /* 0 = no bound */
} output;

static guint terminal_width(void)
{
    const char *columns = g_getenv("COLUMNS");
    struct winsize size;
    guint64 value;

    if (number_parse(columns, 1, G_MAXUINT16, &value))
        return (guint)value;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return 80;
}

void output_init(const Arguments *args)
{
    const char *no_color = g_getenv("NO_COLOR");
    const char *term = g_getenv("TERM");

    output.args = args;
    output.terminal = isatty(STDOUT_FILENO) == 1;
    output.colours = output.terminal && !(no_color && *no_color) && g_strcmp0(term, "dumb") != 0;
    output.width = output.terminal ? terminal_width() : 0;
}

JsonMode output_json_mode(void)
{
    return output.args->json;
}

const char *output_colour(Colour colour)
{
    static const char *const sequences[] = {
        [COLOUR_HEADER] = "\x1b[1m", [COLOUR_GOOD] = "\x1b[32m", [COLOUR_DOUBT] = "\x1b[33m",
        [COLOUR_BAD] = "\x1b[31m",   [COLOUR_FAINT] = "\x1b[2m",
    };

    return output.colours ? sequences[colour] : "";
}

const char *output_colour_end(void)
{
    return output.colours ? "\x1b[0m" : "";
}

static const char *pager_command(void)
{
    const char *command = g_getenv("SYSTEMD_PAGER");

    if (!command)
        command = g_getenv("PAGER");
    if (!command)
        command = "less";
    return command;
}

static void G_GNUC_NORETURN exec_pager(const char *command)
{
    /* quit at once where it fits, raw colours, no clearing of the screen, as systemctl's pager does
     */
    (void)setenv("LESS", "FRSXMK", TRUE);
    /* whoever got root for one command shall not get a root shell out of less(1) */
    if (geteuid() != getuid() || g_getenv("SUDO_UID") || g_getenv("PKEXEC_UID"))
        (void)setenv("LESSSECURE", "1", TRUE);
    (void)execl("/bin/sh", "sh", "-c", command, (char *)NULL);
    _exit(127);
}

void output_pager(void)
{
    const char *command = pager_command();
    AUTO_FD read_end = -1;
    AUTO_FD write_end = -1;
    int fds[2];
    pid_t pid;

    if (!output.terminal || output.pager > 0 || arguments_has(output.args, OPTION_NO_PAGER) ||
        g_str_equal(command, "") || g_str_equal(command, "cat"))
        return;
    /* without a pager the text still is what was asked for, so failing here goes unsaid */
    if (!g_getenv("SYSTEMD_PAGER") && !g_getenv("PAGER")) {
        g_autofree char *path = g_find_program_in_path(command);

        if (!path)
            return;
    }
    if (pipe2(fds, O_CLOEXEC) < 0)
        return;
    read_end = fds[0];
    write_end = fds[1];
    (void)fflush(stdout);
    pid = fork();
    if (pid < 0)
        return;
    if (pid == 0) {
        if (dup2(read_end, STDIN_FILENO) < 0)
            _exit(127);
        exec_pager(command);
    }
    output.pager = pid;
    /* leaving the pager early is no failure: let writes fail with EPIPE instead of killing us */
    (void)signal(SIGPIPE, SIG_IGN);
    (void)dup2(write_end, STDOUT_FILENO);
}

gboolean output_finish(GError **error)
{
    gboolean failed = fflush(stdout) != 0 || ferror(stdout);
    int code = errno;

    if (output.pager > 0) {
        (void)close(STDOUT_FILENO);
        while (waitpid(output.pager, NULL, 0) < 0 && errno == EINTR)
            ;
        output.pager = 0;
        return TRUE;
    }
    if (failed) {
        g_set_error(error, CLI_ERROR, EXIT_STATUS_FAILED, _("cannot write the output: %s"),
                    g_strerror(code));
        return FALSE;
    }
    return TRUE;
}

static void print_stderr(const char *message)
{
    g_autofree char *clean = text_clean(message);

    (void)fflush(stdout);
    fprintf(stderr, "styxyctl: %s\n", clean);
}

void output_note(const char *format, ...)
{
    g_autofree char *message = NULL;
    va_list list;

    if (arguments_has(output.args, OPTION_QUIET))
        return;
    va_start(list, format);
    message = g_strdup_vprintf(format, list);
    va_end(list);
    print_stderr(message);
}

void output_error(const char *message)
{
    print_stderr(message);
}

void output_table(const Table *table)
{
    g_autofree char *text = table_format(table, output.width, output_colour(COLOUR_HEADER));

    fputs(text, stdout);
}

void output_json(GVariant *value)
{
    g_autoptr(GVariant) owned = g_variant_ref_sink(value);
    g_autoptr(JsonGenerator) generator = json_generator_new();
    g_autoptr(JsonNode) root = json_gvariant_serialize(owned);
    g_autofree char *text = NULL;

    json_generator_set_root(generator, root);
    json_generator_set_pretty(generator, output.args->json == JSON_MODE_PRETTY);
    text = json_generator_to_data(generator, NULL);
    puts(text);
}
