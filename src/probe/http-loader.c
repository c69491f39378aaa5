/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "probe/http-loader.h"

#include <dlfcn.h>
#include <stdlib.h>

struct HttpLoader {
    GThread *thread; /* NULL: none could be started */
    GSource *source; /* made ready by the thread when it is done */
    const HttpModule *found;
    HttpLoaded loaded;
    void *data;
};

typedef struct LoaderSource {
    GSource base;
    HttpLoader *loader;
} LoaderSource;

static const HttpModule *module;

const HttpModule *http_module(void)
{
    return module;
}

static void *load(void *data)
{
    HttpLoader *loader = data;
    const char *folder = secure_getenv("STYXY_MODULE_DIR");
    g_autofree char *path =
        g_build_filename(folder ? folder : STYXY_MODULE_DIR, HTTP_MODULE_FILE, NULL);
    /* Stays for good: the types that it registers with GLib cannot be taken back. */
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    const HttpModule *found = handle ? dlsym(handle, HTTP_MODULE_SYMBOL) : NULL;

    if (found && found->abi == HTTP_MODULE_ABI) {
        found->prepare();
        loader->found = found;
    }
    g_source_set_ready_time(loader->source, 0);
    return NULL;
}

static gboolean dispatch(GSource *source, GSourceFunc callback, void *data)
{
    HttpLoader *loader = ((LoaderSource *)source)->loader;

    if (loader->thread)
        (void)g_thread_join(g_steal_pointer(&loader->thread));
    module = loader->found;
    loader->loaded(module, loader->data); /* may have freed it */
    return G_SOURCE_REMOVE;
}

HttpLoader *http_loader_start(HttpLoaded loaded, void *data)
{
    static GSourceFuncs funcs = {.dispatch = dispatch};
    HttpLoader *loader = g_new0(HttpLoader, 1);

    g_assert(!module);
    loader->loaded = loaded;
    loader->data = data;
    loader->source = g_source_new(&funcs, sizeof(LoaderSource));
    ((LoaderSource *)loader->source)->loader = loader;
    g_source_set_static_name(loader->source, "styxy-http");
    (void)g_source_attach(loader->source, g_main_context_get_thread_default());
    loader->thread = g_thread_try_new("styxy-http", load, loader, NULL);
    if (!loader->thread)
        g_source_set_ready_time(loader->source, 0);
    return loader;
}

HttpLoader *http_loader_free(HttpLoader *loader)
{
    if (!loader)
        return NULL;
    if (loader->thread)
        (void)g_thread_join(loader->thread);
    g_source_destroy(loader->source);
    g_source_unref(loader->source);
    g_free(loader);
    return NULL;
}
