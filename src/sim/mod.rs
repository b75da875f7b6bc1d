// SPDX-License-Identifier: GPL-2.0-or-later
//! The test world: a whole target and everything around it in one thread, on a clock that is moved by hand. One seed is
//! one run, the same each time.
//!
//! Inside the world the code is that of the daemon: [`Shard`](crate::engine::shard::Shard)s with their task managers,
//! disks, iSCSI connections and TCP. What is around it is made of faults: wires ([`crate::ports::memory`]), disks
//! ([`store`]), a tape [`library`], initiators ([`session`]) on a TCP of their own ([`peer`]). An [`oracle`] knows for
//! each block what it may hold. A [`plan`] says what happens; it is made from a seed, and made shorter when it fails.
//!
//! `ptgt-sim --help` tells how to run it; docs/testing.md how to extend it.

mod canary;
mod chap;
#[cfg(feature = "sim")]
mod command_line;
mod forger;
mod fuzz;
mod ledger;
mod library;
mod media;
mod network;
mod oracle;
mod peer;
mod plan;
mod run;
mod scsi;
mod session;
mod store;
mod tally;
#[cfg(test)]
mod tests;
mod topology;
mod world;

#[cfg(feature = "sim")]
pub use command_line::main;
