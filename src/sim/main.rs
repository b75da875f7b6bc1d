// SPDX-License-Identifier: GPL-2.0-or-later
//! The test world as a command.

fn main() -> std::process::ExitCode {
    ptgt::sim::main()
}
