/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "probe/http-thread.h"

#include <dlfcn.h>
#include <stdlib.h>

#include "probe/http-module.h"

#define END_USEC (5 * G_USEC_PER_SEC)

/*
 * The two sides share nothing but notes, which are delivered in their order. What follows is marked
 * with the side that may touch it.
 */

struct HttpThread {
    GMainContext *main_context; /* owned reference */
    GMainContext *context;      /* owned: the thread's */
    GThread *thread;            /* main: NULL until the first run */
    const HttpModule *module;   /* thread: NULL until it is loaded */
    guint fetches;              /* thread */
    gboolean ending;            /* thread */
    GMutex lock;
    GCond ended_changed;
    gboolean ended; /* under the lock */
};

/* Counted: main holds one reference until "gone", each note one. */
struct HttpRun {
    HttpThread *thread; /* borrowed */
    char *url;
    char *address;
    guint16 port;
    guint timeout_msec;
    const HttpRunCallbacks *callbacks; /* main */
    void *data;                        /* main */
    gint cancelled;                    /* atomic; set by main */
    HttpFetch *fetch;                  /* thread: NULL before and after */
};

typedef struct Note Note;

struct Note {
    void (*deliver)(const Note *note);
    HttpThread *thread; /* of the thread's own end, else NULL */
    HttpRun *run;       /* a reference */
    HttpVerdict verdict;
    char *reason;              /* owned, of the verdict that is told */
    const char *static_reason; /* of the one to go on with */
};

static void run_clear(void *data)
{
    HttpRun *run = data;

    g_free(run->url);
    g_free(run->address);
}

static void run_unref(HttpRun *run)
{
    g_atomic_rc_box_release_full(run, run_clear);
}

/* ---- notes ---- */

static void note_free(void *data)
{
    Note *note = data;

    if (note->run)
        run_unref(note->run);
    g_free(note->reason);
    g_free(note);
}

static gboolean on_note(void *data)
{
    const Note *note = data;

    note->deliver(note);
    return G_SOURCE_REMOVE;
}

/* @note: what is to be kept of it is copied; the texts are taken over. */
static void post(GMainContext *context, const Note *note)
{
    GSource *source = g_idle_source_new();
    Note *kept = g_memdup2(note, sizeof(*note));

    if (kept->run)
        (void)g_atomic_rc_box_acquire(kept->run);
    g_source_set_priority(source, G_PRIORITY_DEFAULT);
    g_source_set_static_name(source, "styxy-http");
    g_source_set_callback(source, on_note, kept, note_free);
    (void)g_source_attach(source, context);
    g_source_unref(source);
}

static void post_to_main(HttpRun *run, void (*deliver)(const Note *note), HttpVerdict verdict,
                         const char *reason)
{
    post(run->thread->main_context,
         &(Note){.deliver = deliver, .run = run, .verdict = verdict, .reason = g_strdup(reason)});
}

/* ---- delivered to main ---- */

static void go_on(const Note *note);

static void main_again(const Note *note)
{
    HttpRun *run = note->run;
    const char *reason = "";
    HttpVerdict verdict;

    if (run->cancelled)
        return; /* which ends it, too, and the thread may be gone by now */
    verdict = run->callbacks->again(&reason, run->data);
    post(run->thread->context,
         &(Note){.deliver = go_on, .run = run, .verdict = verdict, .static_reason = reason});
}

static void main_done(const Note *note)
{
    if (!note->run->cancelled)
        note->run->callbacks->done(note->verdict, note->reason, note->run->data);
}

static void main_gone(const Note *note)
{
    note->run->callbacks->gone(note->run->data);
    run_unref(note->run);
}

/* ---- in the thread ---- */

static void on_again(void *data)
{
    post_to_main(data, main_again, HTTP_UNKNOWN, NULL);
}

static void on_done(HttpVerdict verdict, const char *reason, void *data)
{
    post_to_main(data, main_done, verdict, reason);
}

static void on_gone(void *data)
{
    HttpRun *run = data;

    run->fetch = NULL;
    run->thread->fetches--;
    post_to_main(run, main_gone, HTTP_UNKNOWN, NULL);
}

/* Returns: NULL where it cannot be loaded; tried again with the next check. */
static const HttpModule *load_module(HttpThread *thread)
{
    const char *folder = secure_getenv("STYXY_MODULE_DIR");
    g_autofree char *path = NULL;
    void *handle = NULL;
    const HttpModule *found = NULL;

    if (thread->module)
        return thread->module;
    path = g_build_filename(folder ? folder : STYXY_MODULE_DIR, HTTP_MODULE_FILE, NULL);
    /* Stays for good: the types that it registers with GLib cannot be taken back. */
    handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!handle)
        return NULL;
    found = dlsym(handle, HTTP_MODULE_SYMBOL);
    if (found && found->abi == HTTP_MODULE_ABI)
        thread->module = found;
    return thread->module;
}

static void start(const Note *note)
{
    HttpRun *run = note->run;
    const HttpModule *module = NULL;

    if (g_atomic_int_get(&run->cancelled)) {
        post_to_main(run, main_gone, HTTP_UNKNOWN, NULL);
        return;
    }
    module = load_module(run->thread);
    if (!module) {
        post_to_main(run, main_done, HTTP_UNKNOWN, "the module for HTTP checks cannot be loaded");
        post_to_main(run, main_gone, HTTP_UNKNOWN, NULL);
        return;
    }
    run->thread->fetches++;
    run->fetch = module->fetch(run->url, run->address, run->port, run->timeout_msec, on_again,
                               on_done, on_gone, run);
}

/* It may have ended meanwhile: its time is up, say. */
static void go_on(const Note *note)
{
    if (note->run->fetch)
        note->run->thread->module->go_on(note->run->fetch, note->verdict, note->static_reason);
}

static void cancel(const Note *note)
{
    if (note->run->fetch)
        note->run->thread->module->cancel(note->run->fetch);
}

static void end(const Note *note)
{
    note->thread->ending = TRUE;
}

static void *work(void *data)
{
    HttpThread *thread = data;

    g_main_context_push_thread_default(thread->context);
    while (!thread->ending || thread->fetches > 0)
        (void)g_main_context_iteration(thread->context, TRUE);
    while (g_main_context_iteration(thread->context, FALSE))
        ; /* what libsoup has still to put away */
    g_main_context_pop_thread_default(thread->context);
    g_mutex_lock(&thread->lock);
    thread->ended = TRUE;
    g_cond_signal(&thread->ended_changed);
    g_mutex_unlock(&thread->lock);
    return NULL;
}

/* ---- the main side ---- */

HttpThread *http_thread_new(void)
{
    HttpThread *thread = g_new0(HttpThread, 1);

    thread->main_context = g_main_context_ref_thread_default();
    thread->context = g_main_context_new();
    g_mutex_init(&thread->lock);
    g_cond_init(&thread->ended_changed);
    return thread;
}

/* A library that hangs must not keep the daemon from leaving. */
static gboolean end_in_time(HttpThread *thread)
{
    gint64 end_usec = g_get_monotonic_time() + END_USEC;
    gboolean ended = TRUE;

    post(thread->context, &(Note){.deliver = end, .thread = thread});
    g_mutex_lock(&thread->lock);
    while (!thread->ended && ended)
        ended = g_cond_wait_until(&thread->ended_changed, &thread->lock, end_usec);
    ended = thread->ended;
    g_mutex_unlock(&thread->lock);
    if (ended)
        (void)g_thread_join(thread->thread);
    return ended;
}

HttpThread *http_thread_free(HttpThread *thread)
{
    if (!thread)
        return NULL;
    if (thread->thread && !end_in_time(thread)) {
        g_warning("the thread for HTTP checks does not end, it is left alone");
        return NULL;
    }
    g_main_context_unref(thread->context);
    g_main_context_unref(thread->main_context);
    g_mutex_clear(&thread->lock);
    g_cond_clear(&thread->ended_changed);
    g_free(thread);
    return NULL;
}

HttpRun *http_run_start(HttpThread *thread, const char *url, const char *address, guint16 port,
                        guint timeout_msec, const HttpRunCallbacks *callbacks, void *data)
{
    HttpRun *run = NULL;

    if (!thread->thread)
        thread->thread = g_thread_try_new("styxy-http", work, thread, NULL);
    if (!thread->thread)
        return NULL;
    run = g_atomic_rc_box_new0(HttpRun);
    run->thread = thread;
    run->url = g_strdup(url);
    run->address = g_strdup(address);
    run->port = port;
    run->timeout_msec = timeout_msec;
    run->callbacks = callbacks;
    run->data = data;
    post(thread->context, &(Note){.deliver = start, .run = run});
    return run;
}

void http_run_cancel(HttpRun *run)
{
    g_atomic_int_set(&run->cancelled, TRUE);
    post(run->thread->context, &(Note){.deliver = cancel, .run = run});
}
