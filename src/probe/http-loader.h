/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "probe/http-module.h"

/*
 * Loads the module in a thread of its own: some thirty libraries and GIO's modules take 30 ms, in
 * which the main loop would answer nobody.
 */
typedef struct HttpLoader HttpLoader;

/** HttpLoaded: @module is NULL where it cannot be loaded. */
typedef void (*HttpLoaded)(const HttpModule *module, void *data);

/** http_module: the module, NULL while it is not loaded. Does not load it. */
const HttpModule *http_module(void);

/**
 * http_loader_start: does not block. Not once it is loaded.
 * @loaded: called once from the thread-default main context, never from within this call.
 */
HttpLoader *http_loader_start(HttpLoaded loaded, void *data);

/** http_loader_free: blocks until the thread has ended; @loaded is not called any more. NULL is
 * fine. Returns: NULL. */
HttpLoader *http_loader_free(HttpLoader *loader);
