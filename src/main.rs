// SPDX-License-Identifier: GPL-2.0-or-later
//! Command line.

fn main() {}
