/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "probe/http.h"

/*
 * Between http.c, which is linked into the daemon, and http-module.c, which is loaded when needed.
 * Both are built and installed together; the number is against a mix of two versions.
 */
#define HTTP_MODULE_ABI 3
#define HTTP_MODULE_FILE "styxy-http.so"
#define HTTP_MODULE_SYMBOL "styxy_http_module"

typedef struct HttpFetch HttpFetch;

typedef struct HttpModule {
    guint abi;

    /** prepare: once, after loading, in any thread: what the first check would do once and for all,
     * which takes longer than the main loop may be kept. Blocks on the disk. */
    void (*prepare)(void);

    /**
     * fetch: one check.
     * @url: has passed http_url_check().
     * @address: numeric, NULL for both loopback addresses; @port: where to connect.
     * @again: asked before each further connection, there too: HTTP_HEALTHY to go on, else the
     *     verdict, with a static reason.
     * @done: the verdict, at most once, never from within this call.
     * @gone: exactly once and last, also after cancel: descriptors and memory are free again.
     */
    HttpFetch *(*fetch)(const char *url, const char *address, guint16 port, guint timeout_msec,
                        HttpVerdict (*again)(const char **ret_reason, void *data), HttpDone done,
                        GDestroyNotify gone, void *data);

    /** cancel: @done will not be called, @gone will. Only before either was. */
    void (*cancel)(HttpFetch *fetch);
} HttpModule;

extern const HttpModule styxy_http_module;
