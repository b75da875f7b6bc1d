// SPDX-License-Identifier: GPL-2.0-or-later
//! The header before each iSCSI PDU on an RDMA connection, and the messages that two sides may begin with (RFC 7145
//! clause 9). Nothing uses them yet; the iSER datamover will.
//!
//! The text of the RFC was not at hand: layouts are those of Linux's header and of Wireshark.

use super::field::{Emit, Malformed, Parse, bit_fields, codes, layout};

codes! {
    /// What follows (RFC 7145 9.1).
    IserOpcode(u8) {
        ISCSI_CONTROL_TYPE = 1,
        HELLO = 2,
        HELLO_REPLY = 3,
    }
}

bit_fields! { IserOpcode }

layout! {
    /// Of an iSCSI control-type PDU, whose header and data follow (RFC 7145 9.2). Each tag names memory of the
    /// initiator's.
    IserControlHeader, "iSER header", 28 bytes {
        /// The tag of what is written to the target is valid.
        [0 & 0x08] write_stag_valid: bool,
        /// The tag of what is read from the target is valid.
        [0 & 0x04] read_stag_valid: bool,
        /// What the target reads, for a command that writes.
        [4] write_stag: u32,
        /// Where that begins.
        [8] write_base_offset: u64,
        /// What the target writes, for a command that reads.
        [16] read_stag: u32,
        /// Where that begins.
        [20] read_base_offset: u64,
    }
}

layout! {
    /// Hello, the initiator's (RFC 7145 9.3).
    IserHello, "iSER Hello", 28 bytes {
        /// The latest version that it speaks.
        [1 & 0xf0] version_max: IserVersion,
        /// The earliest.
        [1 & 0x0f] version_min: IserVersion,
        /// How many RDMA Reads it takes at once.
        [2] ird: u16,
    }
}

layout! {
    /// HelloReply, the target's (RFC 7145 9.4).
    IserHelloReply, "iSER HelloReply", 28 bytes {
        /// The connection is rejected.
        [0 & 0x01] rejected: bool,
        /// The latest version that it speaks.
        [1 & 0xf0] version_max: IserVersion,
        /// The version that is in use.
        [1 & 0x0f] version_current: IserVersion,
        /// How many RDMA Reads it has under way at once.
        [2] ord: u16,
    }
}

codes! {
    /// A version of the protocol.
    IserVersion(u8) {
        RFC_7145 = 10,
    }
}

bit_fields! { IserVersion }

/// What a message begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names are those of RFC 7145")]
pub enum IserHeader {
    Control(IserControlHeader),
    Hello(IserHello),
    HelloReply(IserHelloReply),
}

impl IserHeader {
    /// Its length in bytes, whichever it is.
    pub const LEN: usize = 28;

    const fn opcode(&self) -> IserOpcode {
        match self {
            Self::Control(_) => IserOpcode::ISCSI_CONTROL_TYPE,
            Self::Hello(_) => IserOpcode::HELLO,
            Self::HelloReply(_) => IserOpcode::HELLO_REPLY,
        }
    }
}

layout! {
    /// What all of them have.
    IserCommon, "iSER header", 1 bytes {
        /// What it is.
        [0 & 0xf0] opcode: IserOpcode,
    }
}

impl Parse<'_> for IserHeader {
    fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        match IserCommon::parse(bytes)?.opcode {
            IserOpcode::ISCSI_CONTROL_TYPE => Parse::parse(bytes).map(Self::Control),
            IserOpcode::HELLO => Parse::parse(bytes).map(Self::Hello),
            IserOpcode::HELLO_REPLY => Parse::parse(bytes).map(Self::HelloReply),
            other => Err(Malformed::value("iSER header", "opcode", other.raw())),
        }
    }
}

impl Emit for IserHeader {
    fn buffer_len(&self) -> usize {
        Self::LEN
    }

    fn emit(&self, out: &mut [u8]) {
        match self {
            Self::Control(header) => header.emit(out),
            Self::Hello(hello) => hello.emit(out),
            Self::HelloReply(reply) => reply.emit(out),
        }
        IserCommon { opcode: self.opcode() }.put_over(out);
    }
}

/// Reads any bytes, and what was written of that. For tests and the fuzz target.
#[cfg(any(test, feature = "sim"))]
pub(crate) fn rewrite(bytes: &[u8]) {
    super::rewrite::again!(bytes, IserHeader::parse);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::rewrite::written;

    #[test]
    fn fields_are_where_others_have_them() {
        let control = IserControlHeader {
            write_stag_valid: true,
            read_stag_valid: false,
            write_stag: 0x0102_0304,
            write_base_offset: 0x1112_1314_1516_1718,
            read_stag: 0x2122_2324,
            read_base_offset: 0x3132_3334_3536_3738,
        };
        let mut bytes = [0; 28];
        bytes[0] = 0x18;
        bytes[4..8].copy_from_slice(&[1, 2, 3, 4]);
        bytes[8..16].copy_from_slice(&[0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18]);
        bytes[16..20].copy_from_slice(&[0x21, 0x22, 0x23, 0x24]);
        bytes[20..28].copy_from_slice(&[0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38]);
        assert_eq!(written(&IserHeader::Control(control)), bytes);
        let reads = IserControlHeader { write_stag_valid: false, read_stag_valid: true, ..control };
        assert_eq!(written(&IserHeader::Control(reads))[0], 0x14);

        let (version_max, version_min) = (IserVersion::new(11), IserVersion::RFC_7145);
        let hello = IserHello { version_max, version_min, ird: 0x0102 };
        assert_eq!(written(&IserHeader::Hello(hello))[..4], [0x20, 0xba, 1, 2]);
        let version_current = IserVersion::RFC_7145;
        let reply = IserHelloReply { rejected: true, version_max, version_current, ord: 0x0304 };
        assert_eq!(written(&IserHeader::HelloReply(reply))[..4], [0x31, 0xba, 3, 4]);
    }

    #[test]
    fn what_is_short_or_unknown_is_no_header() {
        for len in 0..28 {
            assert!(IserHeader::parse(&[0x10; 28][..len]).is_err(), "{len}");
        }
        for opcode in [0x00, 0x40, 0xf0] {
            assert!(IserHeader::parse(&[opcode; 28]).is_err(), "{opcode:#x}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_read_as_they_are_written(mut bytes: [u8; 28], opcode in 1..=3_u8) {
            bytes[0] = bytes[0] & 0x0f | opcode << 4;
            prop_assert!(IserHeader::parse(&bytes).is_ok());
            rewrite(&bytes);
        }
    }
}
