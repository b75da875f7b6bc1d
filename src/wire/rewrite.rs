// SPDX-License-Identifier: GPL-2.0-or-later
//! What holds for any bytes: nothing panics, and what was read is written so that it reads the same. For tests and fuzz
//! targets.

use super::field::Emit;

/// The bytes of it, all of which it must have written, and none behind them.
pub(crate) fn written(what: &dyn Emit) -> Vec<u8> {
    let len = what.buffer_len();
    let [zeros, ones] = [0, 0xff].map(|byte| {
        let mut out = vec![byte; len + 8];
        what.emit(&mut out);
        assert!(out[len..].iter().all(|&behind| behind == byte), "more is written than there is");
        out.truncate(len);
        out
    });
    assert_eq!(zeros, ones, "a byte that is not written");
    zeros
}

/// Reads bytes in one way, and what was written of that again.
macro_rules! again {
    ($bytes:expr, $parse:expr) => {
        if let Ok(read) = $parse($bytes) {
            let bytes = $crate::wire::rewrite::written(&read);
            assert_eq!($parse(&bytes).as_ref(), Ok(&read), "{bytes:02x?}");
        }
    };
}

pub(crate) use again;
