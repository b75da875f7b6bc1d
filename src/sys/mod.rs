// SPDX-License-Identifier: GPL-2.0-or-later
//! Every libc call of the project, wrapped safely. Knows nothing of the rest.
#![expect(unsafe_code, reason = "libc")]

mod clock;
mod event;
mod mapping;

pub use clock::monotonic;
pub use event::{EventFd, pin_to_core, random, wait_readable};
pub use mapping::Mapping;
