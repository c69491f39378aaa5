/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* styxyctl: asks the daemon for ports and shows who has them. */

#include <glib/gi18n.h>
#include <locale.h>
#include <stdio.h>

#include "cli/arguments.h"
#include "cli/output.h"
#include "cli/verbs.h"

static ExitStatus run(const Arguments *args, GError **error)
{
    if (arguments_has(args, OPTION_HELP)) {
        g_autofree char *text = arguments_help(args->verb);

        output_pager();
        fputs(text, stdout);
        return EXIT_STATUS_OK;
    }
    if (arguments_has(args, OPTION_VERSION)) {
        puts("styxyctl " STYXY_VERSION);
        return EXIT_STATUS_OK;
    }
    return verb_func(args->verb)(args, error);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GError) write_error = NULL;
    g_autoptr(Arguments) args = NULL;
    Arguments none = {.verb = _VERB_MAX};
    ExitStatus status;

    (void)setlocale(LC_ALL, "");
    (void)bindtextdomain(GETTEXT_PACKAGE, STYXY_LOCALEDIR);
    (void)bind_textdomain_codeset(GETTEXT_PACKAGE, "UTF-8");
    (void)textdomain(GETTEXT_PACKAGE);

    args = arguments_parse(argc > 0 ? argv + 1 : argv, &error);
    output_init(args ? args : &none);
    if (!args) {
        output_error(error->message);
        return EXIT_STATUS_USAGE;
    }
    status = run(args, &error);
    if (!output_finish(&write_error) && status == EXIT_STATUS_OK)
        status = EXIT_STATUS_FAILED;
    if (write_error)
        output_error(write_error->message);
    if (error) {
        output_error(error->message);
        status = (ExitStatus)error->code;
    }
    return (int)status;
}
