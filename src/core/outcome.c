/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/outcome.h"

G_DEFINE_QUARK(styxy - outcome - error - quark, outcome_error)
