/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Any text. What passes is the same tree to json-glib as in the events, reads the same when it is
 * written anew from them, and passes with as many levels as it has and with no fewer.
 */
#include <json-glib/json-glib.h>
#include <string.h>

#include "fuzz.h"
#include "util/json-check.h"

/* json-glib calls itself for every level. */
#define DEPTH_MAX 64

/* Story: the events as a JSON text, and how deep they went. */
typedef struct Story {
    GString *text;
    GString *open; /* of '}' and ']' */
    gsize depth;
    gboolean first; /* in the innermost container */
    gboolean failed;
    guint line;
} Story;

static void append_string(GString *out, const char *text)
{
    g_string_append_c(out, '"');
    for (; *text; text++)
        if (*text == '"' || *text == '\\' || (guchar)*text < 0x20)
            g_string_append_printf(out, "\\u%04x", (guchar)*text);
        else
            g_string_append_c(out, *text);
    g_string_append_c(out, '"');
}

static void open_container(Story *story, char begin, char end)
{
    g_string_append_c(story->text, begin);
    g_string_append_c(story->open, end);
    story->depth = MAX(story->depth, story->open->len);
    story->first = TRUE;
}

static void tell(const JsonEvent *event, void *data)
{
    Story *story = data;

    g_assert_false(story->failed);
    if (event->kind == JSON_EVENT_ERROR) { /* may point back: to a name that stands twice */
        g_assert_cmpuint(event->line, >=, 1);
        story->failed = TRUE;
        g_assert_true(g_utf8_validate(event->text, -1, NULL));
        return;
    }
    g_assert_cmpuint(event->line, >=, story->line);
    story->line = event->line;
    if (event->kind == JSON_EVENT_END) {
        g_string_append_c(story->text, story->open->str[story->open->len - 1]);
        g_string_truncate(story->open, story->open->len - 1);
        story->first = FALSE;
        return;
    }
    if (story->open->len > 0 && !story->first)
        g_string_append_c(story->text, ',');
    story->first = FALSE;
    g_assert_cmpint(event->key != NULL, ==,
                    story->open->len > 0 && story->open->str[story->open->len - 1] == '}');
    if (event->key) {
        append_string(story->text, event->key);
        g_string_append_c(story->text, ':');
    }
    switch (event->kind) {
    case JSON_EVENT_OBJECT:
        open_container(story, '{', '}');
        break;
    case JSON_EVENT_ARRAY:
        open_container(story, '[', ']');
        break;
    case JSON_EVENT_STRING:
        append_string(story->text, event->text);
        break;
    case JSON_EVENT_NUMBER:
        g_string_append(story->text, event->text);
        break;
    default:
        g_string_append(story->text, event->kind == JSON_EVENT_TRUE    ? "true"
                                     : event->kind == JSON_EVENT_FALSE ? "false"
                                                                       : "null");
    }
}

static void story_init(Story *story)
{
    *story = (Story){.text = g_string_new(NULL), .open = g_string_new(NULL), .line = 1};
}

static void story_clear(Story *story)
{
    (void)g_string_free(story->text, TRUE);
    (void)g_string_free(story->open, TRUE);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Story, story_clear)

/* The tree in the same form, but for numbers, whose text json-glib does not keep. */
static void write_tree(GString *out, JsonNode *node)
{
    if (JSON_NODE_HOLDS_OBJECT(node)) {
        JsonObjectIter iter;
        const char *name;
        JsonNode *member;
        gboolean first = TRUE;

        g_string_append_c(out, '{');
        json_object_iter_init_ordered(&iter, json_node_get_object(node));
        while (json_object_iter_next_ordered(&iter, &name, &member)) {
            g_string_append(out, first ? "" : ",");
            first = FALSE;
            append_string(out, name);
            g_string_append_c(out, ':');
            write_tree(out, member);
        }
        g_string_append_c(out, '}');
    } else if (JSON_NODE_HOLDS_ARRAY(node)) {
        JsonArray *array = json_node_get_array(node);

        g_string_append_c(out, '[');
        for (guint i = 0; i < json_array_get_length(array); i++) {
            g_string_append(out, i > 0 ? "," : "");
            write_tree(out, json_array_get_element(array, i));
        }
        g_string_append_c(out, ']');
    } else if (JSON_NODE_HOLDS_NULL(node)) {
        g_string_append(out, "null");
    } else if (json_node_get_value_type(node) == G_TYPE_STRING) {
        append_string(out, json_node_get_string(node));
    } else if (json_node_get_value_type(node) == G_TYPE_BOOLEAN) {
        g_string_append(out, json_node_get_boolean(node) ? "true" : "false");
    } else {
        g_string_append_c(out, '0');
    }
}

static void tell_without_numbers(const JsonEvent *event, void *data)
{
    JsonEvent copy = *event;

    if (event->kind == JSON_EVENT_NUMBER)
        copy.text = "0";
    tell(&copy, data);
}

static void check_json_glib(const char *text, size_t length)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    g_autoptr(GString) tree = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    g_auto(Story) story;

    (void)json_parser_load_from_data(parser, text, (gssize)length, &error);
    g_assert_no_error(error);
    story_init(&story);
    g_assert_true(json_check(text, length, DEPTH_MAX, tell_without_numbers, &story, NULL));
    write_tree(tree, json_parser_get_root(parser));
    g_assert_cmpstr(story.text->str, ==, tree->str);
}

int LLVMFuzzerTestOneInput(const guint8 *data, size_t length)
{
    const char *text = (const char *)data;
    g_autoptr(GError) error = NULL, shallow = NULL;
    g_auto(Story) story;
    g_auto(Story) again;
    gboolean good;

    story_init(&story);
    story_init(&again);
    good = json_check(text, length, DEPTH_MAX, tell, &story, &error);
    g_assert_cmpint(story.failed, ==, !good);
    if (!good) {
        g_assert_true(error->domain == JSON_CHECK_ERROR);
        g_assert_true(g_str_has_prefix(error->message, "line "));
        g_assert_true(g_utf8_validate(error->message, -1, NULL));
        return 0;
    }
    g_assert_no_error(error);
    g_assert_cmpuint(story.open->len, ==, 0);
    g_assert_true(
        json_check(story.text->str, story.text->len, (guint)story.depth, tell, &again, &error));
    g_assert_cmpstr(story.text->str, ==, again.text->str);
    if (story.depth > 0) {
        g_assert_false(json_check(text, length, (guint)story.depth - 1, NULL, NULL, &shallow));
        g_assert_error(shallow, JSON_CHECK_ERROR, JSON_CHECK_ERROR_LIMIT);
    }
    check_json_glib(text, length);
    return 0;
}
