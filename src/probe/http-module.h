/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "probe/http.h"

/*
 * Between http-thread.c, which is linked into the daemon, and http-module.c, which is loaded when
 * needed. Both are built and installed together; the number is against a mix of two versions.
 */
#define HTTP_MODULE_ABI 4
#define HTTP_MODULE_FILE "styxy-http.so"
#define HTTP_MODULE_SYMBOL "styxy_http_module"

typedef struct HttpFetch HttpFetch;

typedef struct HttpModule {
    guint abi;

    /**
     * fetch: one check, on the thread-default main context.
     * @url: has passed http_url_check().
     * @address: numeric, NULL for both loopback addresses; @port: where to connect.
     * @again: before each further connection, there too: go_on() or cancel() is the answer.
     * @done: the verdict, at most once, never from within this call.
     * @gone: exactly once and last, also after cancel: descriptors and memory are free again.
     */
    HttpFetch *(*fetch)(const char *url, const char *address, guint16 port, guint timeout_msec,
                        void (*again)(void *data), HttpDone done, GDestroyNotify gone, void *data);

    /** go_on: the answer to @again, not from within it: HTTP_HEALTHY to connect, else the verdict,
     * with @reason. */
    void (*go_on)(HttpFetch *fetch, HttpVerdict verdict, const char *reason);

    /** cancel: @done will not be called, @gone will, within a turn or two of the loop. Before
     * @gone. */
    void (*cancel)(HttpFetch *fetch);
} HttpModule;

extern const HttpModule styxy_http_module;
