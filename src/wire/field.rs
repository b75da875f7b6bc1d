// SPDX-License-Identifier: GPL-2.0-or-later
//! How a structure is read from and written to bytes, and what is said about bytes that are none.
//!
//! Most structures have a fixed layout. [`layout`] makes reading and writing of one from the same table of offsets, so
//! that they cannot differ; [`codes`] and [`bits`] make the numbers in them types that cannot be mixed up.

/// What is wrong with bytes that a peer has sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{structure}: {field} {defect}")]
pub struct Malformed {
    /// The structure, as the standard calls it.
    pub structure: &'static str,
    /// The field of it.
    pub field: &'static str,
    /// What is wrong with the field.
    pub defect: Defect,
}

/// What can be wrong with a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Defect {
    /// The bytes end before it does.
    #[error("ends at byte {end} of {len}")]
    Short {
        /// Where it would end, counted from the beginning of the structure.
        end: usize,
        /// The bytes that are there.
        len: usize,
    },
    /// A value that it must not have.
    #[error("must not be {0:#x}")]
    Value(u64),
    /// It has to be there, and is not.
    #[error("is missing")]
    Missing,
    /// It is there more often than it may be.
    #[error("is repeated")]
    Repeated,
}

impl Malformed {
    /// A field with a value that it must not have.
    pub(super) fn value(structure: &'static str, field: &'static str, value: impl Into<u64>) -> Self {
        Self { structure, field, defect: Defect::Value(value.into()) }
    }

    /// A field that is not there.
    pub(super) fn missing(structure: &'static str, field: &'static str) -> Self {
        Self { structure, field, defect: Defect::Missing }
    }
}

/// What can be read from the beginning of some bytes. More bytes than it needs are no fault: newer revisions of the
/// standards make structures longer.
pub trait Parse<'a>: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// If the bytes end too early, or a field has a value that it must not have.
    fn parse(bytes: &'a [u8]) -> Result<Self, Malformed>;
}

/// What can be written.
pub trait Emit {
    /// How many bytes it takes.
    fn buffer_len(&self) -> usize;

    /// Writes all of the first [`Self::buffer_len`] bytes, reserved ones too, and none behind them.
    ///
    /// # Panics
    /// If there are fewer bytes.
    fn emit(&self, out: &mut [u8]);
}

/// Bytes are written as they are.
impl Emit for &[u8] {
    fn buffer_len(&self) -> usize {
        self.len()
    }

    fn emit(&self, out: &mut [u8]) {
        out[..self.len()].copy_from_slice(self);
    }
}

/// The first `end` bytes.
pub(super) fn head<'a>(
    bytes: &'a [u8],
    end: usize,
    structure: &'static str,
    field: &'static str,
) -> Result<&'a [u8], Malformed> {
    let short = Malformed { structure, field, defect: Defect::Short { end, len: bytes.len() } };
    bytes.get(..end).ok_or(short)
}

/// A field that always takes the same number of bytes, all of whose values can be read.
pub(super) trait Field: Sized {
    /// The number of bytes.
    const LEN: usize;

    /// Reads it from so many bytes.
    fn get(bytes: &[u8]) -> Self;

    /// Writes it to so many bytes.
    fn put(&self, out: &mut [u8]);
}

impl<const N: usize> Field for [u8; N] {
    const LEN: usize = N;

    fn get(bytes: &[u8]) -> Self {
        let mut value = [0; N];
        value.copy_from_slice(bytes);
        value
    }

    fn put(&self, out: &mut [u8]) {
        out.copy_from_slice(self);
    }
}

macro_rules! integers {
    ($($integer:ty)*) => {
        $(impl Field for $integer {
            const LEN: usize = size_of::<Self>();

            fn get(bytes: &[u8]) -> Self {
                Self::from_be_bytes(Field::get(bytes))
            }

            fn put(&self, out: &mut [u8]) {
                self.to_be_bytes().put(out);
            }
        })*
    };
}

integers!(u8 u16 u32 u64);

/// A field that is some bits of a byte.
pub(super) trait BitField {
    /// Reads it from those bits, moved to the right.
    fn from_bits(bits: u8) -> Self;

    /// As those bits. What goes beyond them is not written.
    fn to_bits(&self) -> u8;
}

impl BitField for bool {
    fn from_bits(bits: u8) -> Self {
        bits != 0
    }

    fn to_bits(&self) -> u8 {
        u8::from(*self)
    }
}

impl BitField for u8 {
    fn from_bits(bits: u8) -> Self {
        bits
    }

    fn to_bits(&self) -> u8 {
        *self
    }
}

/// Reads and writes codes as bits of a byte.
macro_rules! bit_fields {
    ($($name:ident)*) => {
        $(impl $crate::wire::field::BitField for $name {
            fn from_bits(bits: u8) -> Self {
                Self::new(bits)
            }

            fn to_bits(&self) -> u8 {
                self.raw()
            }
        })*
    };
}

/// Reads and writes types of an array of bytes as that.
macro_rules! arrays {
    ($($name:ident)*) => {
        $(impl $crate::wire::field::Field for $name {
            const LEN: usize = size_of::<Self>();

            fn get(bytes: &[u8]) -> Self {
                Self($crate::wire::field::Field::get(bytes))
            }

            fn put(&self, out: &mut [u8]) {
                self.0.put(out);
            }
        })*
    };
}

/// Shows fields by their bytes in hex, with something between them.
macro_rules! shown_in_hex {
    ($($name:ident: $between:literal,)*) => {
        $(impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let mut bytes = [0; <Self as $crate::wire::field::Field>::LEN];
                $crate::wire::field::Field::put(self, &mut bytes);
                bytes.iter().enumerate().try_for_each(|(at, byte)| {
                    let between = if at == 0 { "" } else { $between };
                    write!(f, "{between}{byte:02x}")
                })
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(self, f)
            }
        })*
    };
}

/// Makes a number of so many bytes a type of its own.
macro_rules! number {
    ($(#[$meta:meta])* $name:ident($raw:ty; $len:expr)) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($raw);

        impl $name {
            /// From a number, of which those bits count that the field has.
            pub const fn new(raw: $raw) -> Self {
                Self(raw & (<$raw>::MAX >> (<$raw>::BITS as usize - 8 * $len)))
            }

            /// As a number.
            pub const fn raw(self) -> $raw {
                self.0
            }
        }

        impl $crate::wire::field::Field for $name {
            const LEN: usize = $len;

            fn get(bytes: &[u8]) -> Self {
                let mut raw = [0; size_of::<$raw>()];
                raw[size_of::<$raw>() - $len..].copy_from_slice(bytes);
                Self(<$raw>::from_be_bytes(raw))
            }

            fn put(&self, out: &mut [u8]) {
                out.copy_from_slice(&self.0.to_be_bytes()[size_of::<$raw>() - $len..]);
            }
        }
    };
}

/// A number that is a code: its values have names, and it is shown by them.
macro_rules! codes {
    ($(#[$meta:meta])* $name:ident($raw:ty) { $($code:ident = $value:literal,)* }) => {
        $crate::wire::field::number!($(#[$meta])* $name($raw; size_of::<$raw>()));

        #[expect(missing_docs, reason = "the names are those of the standards")]
        impl $name {
            $(pub const $code: Self = Self($value);)*
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match *self {
                    $(Self::$code => f.write_str(stringify!($code)),)*
                    Self(raw) => write!(f, concat!(stringify!($name), "({:#x})"), raw),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(self, f)
            }
        }
    };
}

/// A number each bit of which says something.
macro_rules! bits {
    ($(#[$meta:meta])* $name:ident($raw:ty; $len:expr) { $($(#[$bit_meta:meta])* $bit:ident = $value:literal,)* }) => {
        $crate::wire::field::number!(
            $(#[$meta])*
            #[derive(Default)]
            $name($raw; $len)
        );

        impl $name {
            $($(#[$bit_meta])* pub const $bit: Self = Self($value);)*

            /// Whether all these bits are set.
            pub const fn contains(self, bits: Self) -> bool {
                self.0 & bits.0 == bits.0
            }

            /// With these bits, too.
            #[must_use]
            pub const fn with(self, bits: Self) -> Self {
                Self(self.0 | bits.0)
            }

            /// Without these bits.
            #[must_use]
            pub const fn without(self, bits: Self) -> Self {
                Self(self.0 & !bits.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }
    };
}

/// One field of a [`layout`], by its offset and, if it is less than a byte, by its bits.
macro_rules! layout_field {
    (end $at:literal $type:ty) => {
        $at + <$type as $crate::wire::field::Field>::LEN
    };
    (end $at:literal $mask:literal $type:ty) => {
        $at + 1
    };
    (get $bytes:ident $at:literal $type:ty) => {
        $crate::wire::field::Field::get(&$bytes[$at..$at + <$type as $crate::wire::field::Field>::LEN])
    };
    (get $bytes:ident $at:literal $mask:literal $type:ty) => {{
        const MASK: u8 = $mask;
        <$type as $crate::wire::field::BitField>::from_bits(($bytes[$at] & MASK) >> MASK.trailing_zeros())
    }};
    (put $value:expr, $out:ident $at:literal $type:ty) => {
        $crate::wire::field::Field::put(
            &$value,
            &mut $out[$at..$at + <$type as $crate::wire::field::Field>::LEN],
        )
    };
    (put $value:expr, $out:ident $at:literal $mask:literal $type:ty) => {{
        const MASK: u8 = $mask;
        let bits = $crate::wire::field::BitField::to_bits(&$value) << MASK.trailing_zeros();
        $out[$at] = $out[$at] & !MASK | bits & MASK;
    }};
}

/// A structure of fixed length, by the offsets of its fields: the struct, and how it is read and written.
macro_rules! structure {
    (
        $(#[$meta:meta])*
        $name:ident, $len:expr; $($(#[$field_meta:meta])* [$at:literal $(& $mask:literal)?] $field:ident: $type:ty,)+
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)+
        }

        impl $name {
            /// Writes its fields over bytes, and leaves what is between them.
            #[inline]
            fn put_over(&self, out: &mut [u8]) {
                $($crate::wire::field::layout_field!(put self.$field, out $at $($mask)? $type);)+
            }
        }

        impl $crate::wire::field::Field for $name {
            const LEN: usize = $len;

            #[inline]
            fn get(bytes: &[u8]) -> Self {
                Self {
                    $($field: $crate::wire::field::layout_field!(get bytes $at $($mask)? $type),)+
                }
            }

            #[inline]
            fn put(&self, out: &mut [u8]) {
                out.fill(0);
                self.put_over(out);
            }
        }
    };
}

/// A structure of fixed length, by the offsets of its fields: with `[1 & 0x0c]`, some bits of a byte. What is between
/// them is reserved: written as zero, and not looked at.
macro_rules! layout {
    (
        $(#[$meta:meta])*
        $name:ident, $title:literal, $len:literal bytes
        { $($(#[$field_meta:meta])* [$at:literal $(& $mask:literal)?] $field:ident: $type:ty,)+ }
    ) => {
        $crate::wire::field::structure! {
            $(#[$meta])*
            $name, $len; $($(#[$field_meta])* [$at $(& $mask)?] $field: $type,)+
        }

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;
        }

        impl $crate::wire::field::Parse<'_> for $name {
            fn parse(bytes: &[u8]) -> Result<Self, $crate::wire::field::Malformed> {
                use $crate::wire::field::{Field, head, layout_field};
                $(head(bytes, layout_field!(end $at $($mask)? $type), $title, stringify!($field))?;)+
                head(bytes, $len, $title, "reserved").map(Field::get)
            }
        }

        impl $crate::wire::field::Emit for $name {
            fn buffer_len(&self) -> usize {
                $len
            }

            fn emit(&self, out: &mut [u8]) {
                $crate::wire::field::Field::put(self, &mut out[..$len]);
            }
        }
    };
}

/// The requests of a protocol, each by its code: the type of all of them, and what is read, told and written of one.
macro_rules! requests {
    (
        $(#[$meta:meta])*
        $name:ident, $code_of:ident: $codes:ident {
            $($(#[$request_meta:meta])* $request:ident($body:ty) = $code:ident,)+
        }
    ) => {
        $(#[$meta])*
        pub enum $name<'a> {
            $($(#[$request_meta])* $request($body),)+
            /// One that is not read any further, of this code and with these bytes.
            Other($codes, &'a [u8]),
        }

        impl<'a> $name<'a> {
            /// The request of a code, from its bytes.
            fn of(code: $codes, bytes: &'a [u8]) -> Result<Self, $crate::wire::field::Malformed> {
                Ok(match code {
                    $($codes::$code => Self::$request($crate::wire::field::Parse::parse(bytes)?),)+
                    other => Self::Other(other, bytes),
                })
            }

            /// What is asked for.
            pub const fn $code_of(&self) -> $codes {
                match self {
                    $(Self::$request(_) => $codes::$code,)+
                    Self::Other(code, _) => *code,
                }
            }

            fn payload(&self) -> &dyn $crate::wire::field::Emit {
                match self {
                    $(Self::$request(body) => body,)+
                    Self::Other(_, bytes) => bytes,
                }
            }
        }
    };
}

pub(super) use {
    arrays, bit_fields, bits, codes, layout, layout_field, number, requests, shown_in_hex, structure,
};
