// SPDX-License-Identifier: GPL-2.0-or-later
//! The basic header segment: 48 bytes, the same frame for every PDU (RFC 7143 11.2).

/// The reserved tag: "no task", "no transfer".
pub const NO_TAG: u32 = 0xffff_ffff;

/// Immediate delivery, in byte 0 of a request.
pub const IMMEDIATE: u8 = 0x40;

/// The final PDU of a sequence, in byte 1 of most PDUs.
pub const FINAL: u8 = 0x80;

/// Operation codes (RFC 7143 11.2.1.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opcode(pub u8);

#[expect(missing_docs, reason = "the names are those of RFC 7143")]
impl Opcode {
    pub const NOP_OUT: Self = Self(0x00);
    pub const SCSI_COMMAND: Self = Self(0x01);
    pub const TASK_MANAGEMENT_REQUEST: Self = Self(0x02);
    pub const LOGIN_REQUEST: Self = Self(0x03);
    pub const TEXT_REQUEST: Self = Self(0x04);
    pub const DATA_OUT: Self = Self(0x05);
    pub const LOGOUT_REQUEST: Self = Self(0x06);
    pub const SNACK_REQUEST: Self = Self(0x10);
    pub const NOP_IN: Self = Self(0x20);
    pub const SCSI_RESPONSE: Self = Self(0x21);
    pub const TASK_MANAGEMENT_RESPONSE: Self = Self(0x22);
    pub const LOGIN_RESPONSE: Self = Self(0x23);
    pub const TEXT_RESPONSE: Self = Self(0x24);
    pub const DATA_IN: Self = Self(0x25);
    pub const LOGOUT_RESPONSE: Self = Self(0x26);
    pub const R2T: Self = Self(0x31);
    pub const ASYNC_MESSAGE: Self = Self(0x32);
    pub const REJECT: Self = Self(0x3f);
}

/// Bits of byte 1 of SCSI Command, SCSI Response and Data-In PDUs.
pub mod scsi_flags {
    /// The command reads (11.3.1).
    pub const READ: u8 = 0x40;
    /// The command writes (11.3.1).
    pub const WRITE: u8 = 0x20;
    /// Bidirectional read residual overflow (11.4.1).
    pub const BIDI_OVERFLOW: u8 = 0x10;
    /// Bidirectional read residual underflow (11.4.1).
    pub const BIDI_UNDERFLOW: u8 = 0x08;
    /// Residual overflow (11.4.1, 11.7.4).
    pub const OVERFLOW: u8 = 0x04;
    /// Residual underflow (11.4.1, 11.7.4).
    pub const UNDERFLOW: u8 = 0x02;
    /// The Data-In PDU carries the status (11.7.3).
    pub const STATUS: u8 = 0x01;
}

/// Reasons of a Reject PDU (RFC 7143 11.17.1).
pub mod reject {
    #![expect(missing_docs, reason = "the names are those of RFC 7143")]
    pub const DATA_DIGEST_ERROR: u8 = 0x02;
    pub const SNACK_REJECT: u8 = 0x03;
    pub const PROTOCOL_ERROR: u8 = 0x04;
    pub const COMMAND_NOT_SUPPORTED: u8 = 0x05;
    pub const TOO_MANY_IMMEDIATE: u8 = 0x06;
    pub const INVALID_PDU_FIELD: u8 = 0x09;
}

/// A basic header segment. Fields that only some PDUs have are read and written by their byte offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bhs(pub [u8; 48]);

impl Bhs {
    /// Length in bytes.
    pub const LEN: usize = 48;

    /// A header of zeros with this opcode and byte 1.
    pub fn new(opcode: Opcode, flags: u8) -> Self {
        let mut bytes = [0; Self::LEN];
        bytes[0] = opcode.0;
        bytes[1] = flags;
        Self(bytes)
    }

    /// The operation code.
    pub fn opcode(&self) -> Opcode {
        Opcode(self.0[0] & 0x3f)
    }

    /// Whether a request is to be delivered at once.
    pub fn is_immediate(&self) -> bool {
        self.0[0] & IMMEDIATE != 0
    }

    /// Byte 1: the flags.
    pub fn flags(&self) -> u8 {
        self.0[1]
    }

    /// Whether [`FINAL`] is set.
    pub fn is_final(&self) -> bool {
        self.0[1] & FINAL != 0
    }

    /// Length of the additional header segments in bytes.
    pub fn ahs_len(&self) -> usize {
        usize::from(self.0[4]) * 4
    }

    /// Length of the data segment in bytes, without padding.
    pub fn data_len(&self) -> usize {
        usize::from(self.0[5]) << 16 | usize::from(self.0[6]) << 8 | usize::from(self.0[7])
    }

    /// Sets the length of the data segment.
    ///
    /// # Panics
    /// When it does not fit in 24 bits: data segments are cut to the peer's limit before.
    pub fn set_data_len(&mut self, len: usize) {
        let [a, b, c, d] = u32::try_from(len).expect("a data segment has a 24-bit length").to_be_bytes();
        assert_eq!(a, 0, "a data segment has a 24-bit length");
        self.0[5..8].copy_from_slice(&[b, c, d]);
    }

    /// Bytes 8 to 15: the LUN, or what else is there.
    pub fn lun(&self) -> u64 {
        u64::from_be_bytes(self.0[8..16].try_into().expect("eight bytes"))
    }

    /// Sets bytes 8 to 15.
    pub fn set_lun(&mut self, lun: u64) {
        self.0[8..16].copy_from_slice(&lun.to_be_bytes());
    }

    /// Initiator task tag.
    pub fn itt(&self) -> u32 {
        self.word(16)
    }

    /// The big-endian 32-bit field at a byte offset.
    pub fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.0[at..at + 4].try_into().expect("four bytes"))
    }

    /// Sets the 32-bit field at a byte offset.
    pub fn set_word(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    /// The big-endian 16-bit field at a byte offset.
    pub fn half(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    /// Sets the 16-bit field at a byte offset.
    pub fn set_half(&mut self, at: usize, value: u16) {
        self.0[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }

    /// CmdSN of a request.
    pub fn cmd_sn(&self) -> u32 {
        self.word(24)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_the_rfc_puts_them() {
        let mut bhs = Bhs::new(Opcode::SCSI_COMMAND, FINAL | scsi_flags::READ | 1);
        bhs.0[0] |= IMMEDIATE;
        bhs.0[4] = 3;
        bhs.set_data_len(0x01_02_03);
        bhs.set_lun(0x0001_0000_0000_0000);
        bhs.set_word(16, 0xdead_beef);
        bhs.set_word(24, 7);
        assert_eq!(
            bhs.0[..20],
            [0x41, 0xc1, 0, 0, 3, 1, 2, 3, 0, 1, 0, 0, 0, 0, 0, 0, 0xde, 0xad, 0xbe, 0xef]
        );
        assert!(bhs.is_immediate() && bhs.is_final());
        assert_eq!((bhs.opcode(), bhs.ahs_len(), bhs.data_len()), (Opcode::SCSI_COMMAND, 12, 0x10203));
        assert_eq!((bhs.itt(), bhs.cmd_sn(), bhs.lun()), (0xdead_beef, 7, 1 << 48));
    }
}
