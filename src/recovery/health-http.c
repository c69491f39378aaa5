/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recovery/health-private.h"
