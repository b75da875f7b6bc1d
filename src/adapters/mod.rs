// SPDX-License-Identifier: GPL-2.0-or-later
//! What joins each fabric's protocol machine to the cores: who is there, what is exported to whom, and where its bytes come
//! from.

pub mod iscsi;
