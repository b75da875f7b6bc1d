// SPDX-License-Identifier: GPL-2.0-or-later
//! A Fibre Channel frame in an Ethernet frame (FC-BB-6, "FCoE frame format"), and its CRC.

use super::field::{Defect, Emit, Field, Malformed, Parse, codes};
use super::header::{DfCtl, FCtl, FcHeader};
use crate::wire::{Crc, Ethernet};

/// Ethertype of FCoE (FC-BB-6, "FCoE frame format").
pub const ETHERTYPE_FCOE: u16 = 0x8906;

/// Longest payload of a frame (FC-FS, "Data field").
pub const PAYLOAD_MAX: usize = 2112;

codes! {
    /// SOF, the delimiter before a frame (FC-BB-6, "FCoE frame format"; RFC 3643, "SOF and EOF").
    Sof(u8) {
        SOF_F = 0x28,
        SOF_I4 = 0x29,
        SOF_I2 = 0x2d,
        SOF_I3 = 0x2e,
        SOF_N4 = 0x31,
        SOF_N2 = 0x35,
        SOF_N3 = 0x36,
        SOF_C4 = 0x39,
    }
}

codes! {
    /// EOF, the delimiter behind a frame (FC-BB-6, "FCoE frame format"; RFC 3643, "SOF and EOF").
    Eof(u8) {
        EOF_N = 0x41,
        EOF_T = 0x42,
        EOF_RT = 0x44,
        EOF_DT = 0x46,
        EOF_NI = 0x49,
        EOF_DTI = 0x4e,
        EOF_RTI = 0x4f,
        EOF_A = 0x50,
    }
}

/// A running CRC of a frame, over its header and payload with the fill bytes (FC-FS, "Cyclic Redundancy Check"). It is
/// that of Ethernet; in FCoE its least significant byte comes first.
pub type FcCrc = Crc<Ethernet>;

const NAME: &str = "FCoE frame";

/// Bytes before the header of a frame: version, reserved, SOF.
const PREFIX: usize = 14;

/// Bytes behind the payload of a frame: CRC, EOF, reserved.
const TRAILER: usize = 8;

/// The bytes of an FCoE frame, from behind the ethertype to the end, without a frame check sequence: lengths are good,
/// and nothing else is known of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FcoePacket<'a> {
    prefix: &'a [u8; PREFIX],
    frame: &'a [u8],
    trailer: &'a [u8; TRAILER],
}

impl<'a> FcoePacket<'a> {
    /// Bytes that there are besides the payload.
    pub const OVERHEAD: usize = PREFIX + FcHeader::LEN + TRAILER;

    /// Looks at the lengths: there must be all fields, and a payload of whole words that is not too long.
    ///
    /// # Errors
    /// Otherwise.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let fault = |field, end| Malformed {
            structure: NAME,
            field,
            defect: Defect::Short { end, len: bytes.len() },
        };
        let (prefix, rest) = bytes.split_first_chunk().ok_or_else(|| fault("SOF", PREFIX))?;
        let (frame, trailer) = rest.split_last_chunk().ok_or_else(|| fault("EOF", Self::OVERHEAD))?;
        let Some(payload) = frame.len().checked_sub(FcHeader::LEN) else {
            return Err(fault("header", Self::OVERHEAD));
        };
        if payload > PAYLOAD_MAX || !payload.is_multiple_of(4) {
            return Err(Malformed::value(NAME, "payload length", payload as u64));
        }
        Ok(Self { prefix, frame, trailer })
    }

    /// The version of the encapsulation, which is 0.
    pub fn version(&self) -> u8 {
        self.prefix[0] >> 4
    }

    /// The delimiter before the frame.
    pub fn sof(&self) -> Sof {
        Sof::new(self.prefix[13])
    }

    /// The delimiter behind the frame.
    pub fn eof(&self) -> Eof {
        Eof::new(self.trailer[4])
    }

    /// The header of the frame.
    pub fn header(&self) -> FcHeader {
        FcHeader::get(&self.frame[..FcHeader::LEN])
    }

    /// The payload with fill bytes.
    pub fn payload(&self) -> &'a [u8] {
        &self.frame[FcHeader::LEN..]
    }

    /// What the CRC covers: header and payload with fill bytes.
    pub fn covered(&self) -> &'a [u8] {
        self.frame
    }

    /// The CRC as it came.
    pub fn crc(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = *self.trailer;
        [a, b, c, d]
    }
}

/// A Fibre Channel frame with its delimiters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FcoeFrame<'a> {
    /// The delimiter before it.
    pub sof: Sof,
    /// Its header.
    pub header: FcHeader,
    /// Its payload with fill bytes: whole words, at most [`PAYLOAD_MAX`].
    pub payload: &'a [u8],
    /// The delimiter behind it.
    pub eof: Eof,
}

impl<'a> FcoeFrame<'a> {
    /// The payload without optional headers and fill bytes.
    ///
    /// # Errors
    /// If there are optional headers (nobody sends them to a SCSI target), or fill bytes where none may be: in a frame
    /// that is not the last of its sequence, or more than the payload has.
    pub fn data(&self) -> Result<&'a [u8], Malformed> {
        let FcHeader { df_ctl, f_ctl, .. } = self.header;
        if df_ctl != DfCtl::NONE {
            return Err(Malformed::value(NAME, "DF_CTL", df_ctl.raw()));
        }
        let end = self.payload.len().checked_sub(f_ctl.fill());
        let end = end.filter(|_| f_ctl.fill() == 0 || f_ctl.contains(FCtl::END_SEQUENCE));
        let end = end.ok_or_else(|| Malformed::value(NAME, "F_CTL", f_ctl.raw()))?;
        Ok(&self.payload[..end])
    }

    /// What comes before the payload.
    pub fn prefix(&self) -> [u8; PREFIX + FcHeader::LEN] {
        let mut bytes = [0; PREFIX + FcHeader::LEN];
        bytes[13] = self.sof.raw();
        self.header.put(&mut bytes[PREFIX..]);
        bytes
    }

    /// What comes behind the payload.
    pub fn trailer(crc: [u8; 4], eof: Eof) -> [u8; TRAILER] {
        let [a, b, c, d] = crc;
        [a, b, c, d, eof.raw(), 0, 0, 0]
    }
}

impl<'a> Parse<'a> for FcoeFrame<'a> {
    /// From behind the ethertype to the end of the frame, without its frame check sequence. The CRC must be right.
    fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let packet = FcoePacket::new(bytes)?;
        if packet.version() != 0 {
            return Err(Malformed::value(NAME, "version", packet.version()));
        }
        if packet.crc() != FcCrc::of(packet.covered()).wire() {
            return Err(Malformed::value(NAME, "CRC", u32::from_le_bytes(packet.crc())));
        }
        let (sof, eof) = (packet.sof(), packet.eof());
        Ok(Self { sof, header: packet.header(), payload: packet.payload(), eof })
    }
}

impl Emit for FcoeFrame<'_> {
    fn buffer_len(&self) -> usize {
        FcoePacket::OVERHEAD + self.payload.len()
    }

    fn emit(&self, out: &mut [u8]) {
        let (prefix, end) = (self.prefix(), self.buffer_len() - TRAILER);
        out[..prefix.len()].copy_from_slice(&prefix);
        out[prefix.len()..end].copy_from_slice(self.payload);
        let crc = FcCrc::of(&out[PREFIX..end]).wire();
        out[end..end + TRAILER].copy_from_slice(&Self::trailer(crc, self.eof));
    }
}

#[cfg(test)]
mod tests {
    use super::super::header::{FcType, RCtl};
    use super::super::name::FcId;
    use super::*;

    fn frame(payload: &[u8], fill: usize) -> FcoeFrame<'_> {
        let mut header = FcHeader::request(RCtl::ELS_REQUEST, FcType::ELS, FcId::new(1), FcId::new(2), 3);
        header.f_ctl = header.f_ctl.with_fill(fill);
        FcoeFrame { sof: Sof::SOF_I3, header, payload, eof: Eof::EOF_T }
    }

    #[test]
    fn what_is_wrong_with_a_frame_is_said() {
        let payload = [7; 8];
        let mut good = [0xff; FcoePacket::OVERHEAD + 8];
        frame(&payload, 0).emit(&mut good);
        assert_eq!(FcoeFrame::parse(&good), Ok(frame(&payload, 0)));
        let says = |bytes: &[u8]| FcoeFrame::parse(bytes).expect_err("it is wrong").to_string();
        assert_eq!(says(&good[..9]), "FCoE frame: SOF ends at byte 14 of 9");
        assert_eq!(says(&good[..21]), "FCoE frame: EOF ends at byte 46 of 21");
        assert_eq!(says(&good[..45]), "FCoE frame: header ends at byte 46 of 45");
        assert_eq!(says(&good[..53]), "FCoE frame: payload length must not be 0x7");
        assert_eq!(says(&[0; FcoePacket::OVERHEAD + 2116]), "FCoE frame: payload length must not be 0x844");
        for at in PREFIX..good.len() - 4 {
            let mut bad = good;
            bad[at] ^= 0x10;
            assert!(says(&bad).starts_with("FCoE frame: CRC must not be 0x"), "byte {at}");
        }
        good[0] = 0x10;
        assert_eq!(says(&good), "FCoE frame: version must not be 0x1");
    }

    #[test]
    fn fill_bytes_are_no_data() {
        let payload = [1, 2, 3, 4, 5, 6, 0, 0];
        assert_eq!(frame(&payload, 2).data(), Ok(&payload[..6]));
        assert_eq!(frame(&payload[..0], 1).data().map_err(|e| e.field), Err("F_CTL"));
        let mut middle = frame(&payload, 1);
        middle.header.f_ctl = middle.header.f_ctl.without(FCtl::END_SEQUENCE);
        assert_eq!(middle.data().map_err(|e| e.field), Err("F_CTL"));
        let mut optional = frame(&payload, 0);
        optional.header.df_ctl = DfCtl::NETWORK_HEADER;
        assert_eq!(optional.data().map_err(|e| e.field), Err("DF_CTL"));
    }
}
