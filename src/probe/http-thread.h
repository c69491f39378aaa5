/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "probe/http.h"

/*
 * The thread in which HTTP is done, so that the main loop is not kept by it: loading the module
 * with its thirty libraries takes 30 ms, reading all certificates for the first TLS connection 60
 * ms, a handshake 5 ms, and a service may answer byte by byte.
 */
typedef struct HttpThread HttpThread;
typedef struct HttpRun HttpRun;

/**
 * http_thread_new: for the thread-default main context, from which all callbacks come. The thread
 * itself begins with the first run. Not where descriptors may have run out: GLib aborts then.
 */
HttpThread *http_thread_new(void);

/** http_thread_free: all runs are cancelled or over. Blocks until the thread has ended: where the
 * module is being loaded some 30 ms, five seconds at most, after which it is left alone with what
 * it has. NULL is fine. Returns: NULL. */
HttpThread *http_thread_free(HttpThread *thread);

/** HttpRunCallbacks: as of HttpModule, but from the main context. */
typedef struct HttpRunCallbacks {
    /** Asked before each further connection: HTTP_HEALTHY to go on, else the verdict, with a static
     * reason. */
    HttpVerdict (*again)(const char **ret_reason, void *data);
    /** The verdict, at most once, never from within http_run_start(). */
    HttpDone done;
    /** Exactly once and last, also after http_run_cancel(): descriptors are free again. May come
     * after http_thread_free(). */
    GDestroyNotify gone;
} HttpRunCallbacks;

/**
 * http_run_start: one check. Does not block.
 * @url: has passed http_url_check(). @address: numeric, NULL for both loopback addresses; @port:
 * where to connect. @callbacks: static.
 *
 * Returns: (transfer none): valid until ->gone is called; NULL where no thread can be had.
 */
HttpRun *http_run_start(HttpThread *thread, const char *url, const char *address, guint16 port,
                        guint timeout_msec, const HttpRunCallbacks *callbacks, void *data);

/** http_run_cancel: neither ->again nor ->done will be called. Does not block. */
void http_run_cancel(HttpRun *run);
