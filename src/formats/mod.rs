// SPDX-License-Identifier: GPL-2.0-or-later
//! Formats of what stores keep beyond plain blocks, without I/O: they tell what to read and what to write, and are told
//! what came of it.

pub mod tape;
