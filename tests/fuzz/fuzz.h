/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/**
 * LLVMFuzzerTestOneInput: what every target defines: one run over @length bytes, of which none
 * beyond may be read. Aborts where something is wrong.
 * Returns: 0. Source: https://llvm.org/docs/LibFuzzer.html, "Fuzz Target".
 */
int LLVMFuzzerTestOneInput(const guint8 *data, size_t length);
