// SPDX-License-Identifier: GPL-2.0-or-later
//! Real frames, frames laid out by hand, and frames at random.

mod golden;
mod random;
mod vectors;
