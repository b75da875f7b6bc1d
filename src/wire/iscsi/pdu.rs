// SPDX-License-Identifier: GPL-2.0-or-later
//! The header of a PDU as what it means.

use super::bhs::Bhs;
use super::codes::Opcode;

/// The header of one kind of PDU. Lengths are not in it: they are of the [`Bhs`], which whoever cuts and joins PDUs
/// has.
///
/// Any header can be read: reserved bits are not looked at, and whether a value makes sense at its time is not for here
/// to say.
pub trait PduHeader: Sized {
    /// The kind.
    const OPCODE: Opcode;

    /// Reads the header of a PDU of this kind.
    fn parse(bhs: &Bhs) -> Self;

    /// Writes it, with zeros where something is reserved.
    fn emit(&self) -> Bhs;

    /// Writes its fields over those of a header, and leaves all else.
    fn emit_over(&self, bhs: &mut Bhs);
}

/// A [`PduHeader`] by the offsets of its fields, and by what always has the same value.
macro_rules! pdu {
    (
        $(#[$meta:meta])*
        $name:ident: $opcode:ident $(, [$fixed_at:literal] = $fixed:expr)*;
        $($(#[$field_meta:meta])* [$at:literal $(& $mask:literal)?] $field:ident: $type:ty,)+
    ) => {
        $crate::wire::field::structure! {
            $(#[$meta])*
            $name, 48; $($(#[$field_meta])* [$at $(& $mask)?] $field: $type,)+
        }

        impl $crate::wire::iscsi::PduHeader for $name {
            const OPCODE: $crate::wire::iscsi::Opcode = $crate::wire::iscsi::Opcode::$opcode;

            #[inline]
            fn parse(bhs: &$crate::wire::iscsi::Bhs) -> Self {
                debug_assert_eq!(bhs.opcode(), Self::OPCODE);
                $crate::wire::field::Field::get(bhs.bytes())
            }

            #[inline]
            fn emit(&self) -> $crate::wire::iscsi::Bhs {
                let mut bhs = $crate::wire::iscsi::Bhs([0; 48]);
                bhs.0[0] = Self::OPCODE.raw();
                $($crate::wire::iscsi::pdu::put_at(&mut bhs, $fixed_at, $fixed);)*
                self.emit_over(&mut bhs);
                bhs
            }

            #[inline]
            fn emit_over(&self, bhs: &mut $crate::wire::iscsi::Bhs) {
                self.put_over(&mut bhs.0);
            }
        }
    };
}

/// Writes one field.
#[inline]
pub(super) fn put_at<F: crate::wire::field::Field>(bhs: &mut Bhs, at: usize, value: F) {
    value.put(&mut bhs.0[at..at + F::LEN]);
}

/// Byte 1 of PDUs that are always the last of their sequence.
pub(super) const FINAL: u8 = 0x80;

pub(super) use pdu;
