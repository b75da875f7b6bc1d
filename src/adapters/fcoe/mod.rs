// SPDX-License-Identifier: GPL-2.0-or-later
//! FCoE on raw Ethernet frames of a port: which initiators are there, and what they see.

mod fabric;
pub mod options;
pub mod status;
pub mod target;
#[cfg(test)]
mod tests;
