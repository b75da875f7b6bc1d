// SPDX-License-Identifier: GPL-2.0-or-later
//! Tape images of other programs: read from the beginning to the end, and written.

use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};

use super::file::TapeItem;
use crate::formats::tape::RECORD_BYTES_MAX;
use crate::wire::Crc32c;
use crate::wire::scsi::{be32, be64};

/// A format of another program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ForeignFormat {
    /// AWSTAPE of Hercules and P/390. HET is read only if nothing in it is compressed; `hetupd -d` undoes that.
    Aws,
    /// The `.tap` of SIMH.
    Simh,
    /// The `.img` of tgt (import only).
    Tgt,
}

/// Reads objects.
#[derive(Debug)]
pub(super) struct ForeignReader<R> {
    format: ForeignFormat,
    from: R,
    /// Bytes before the next header.
    pub(super) at: u64,
}

fn wrong(at: u64, what: &str) -> String {
    format!("byte {at}: {what}")
}

impl<R: BufRead + Seek> ForeignReader<R> {
    /// A reader. What begins like nothing of that format is told.
    pub(super) fn new(format: ForeignFormat, from: R) -> Result<Self, String> {
        let mut reader = Self { format, from, at: 0 };
        if format == ForeignFormat::Tgt {
            let header = reader.tgt_header(0)?;
            if header.kind != TGT_BEGINNING {
                return Err(wrong(0, "not the header of a tape"));
            }
            reader.at = header.next;
        }
        Ok(reader)
    }

    /// The next object; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<TapeItem>, String> {
        match self.format {
            ForeignFormat::Aws => self.next_aws(),
            ForeignFormat::Simh => self.next_simh(),
            ForeignFormat::Tgt => self.next_tgt(),
        }
    }

    /// So many bytes; `None` if the file ends before the first of them.
    fn take(&mut self, len: u32) -> Result<Option<Vec<u8>>, String> {
        let at = self.at;
        let mut bytes = Vec::new();
        let taken = (&mut self.from).take(len.into()).read_to_end(&mut bytes);
        taken.map_err(|e| wrong(at, &e.to_string()))?;
        self.at += bytes.len() as u64;
        match bytes.len() {
            0 if len > 0 => Ok(None),
            n if n == len as usize => Ok(Some(bytes)),
            _ => Err(wrong(at, "the file ends in the middle of a block")),
        }
    }

    fn take_all(&mut self, len: u32) -> Result<Vec<u8>, String> {
        let at = self.at;
        self.take(len)?.ok_or_else(|| wrong(at, "the file ends in the middle of a record"))
    }

    fn next_aws(&mut self) -> Result<Option<TapeItem>, String> {
        let mut record: Option<Vec<u8>> = None;
        loop {
            let at = self.at;
            let header = match self.take(6)? {
                Some(header) => header,
                None if record.is_none() => return Ok(None),
                None => return Err(wrong(at, "the file ends in the middle of a record")),
            };
            let len = u32::from(u16::from_le_bytes([header[0], header[1]]));
            let flags = header[4];
            if flags & 0x03 != 0 || header[5] & 0x80 != 0 {
                return Err(wrong(
                    at,
                    "a compressed block; write the tape again without compression (hetupd -d)",
                ));
            }
            let begins = flags & 0x80 != 0;
            if flags & 0x40 != 0 {
                return match (len, &record) {
                    (0, None) => Ok(Some(TapeItem::Filemark)),
                    _ => Err(wrong(at, "a tape mark in the middle of a record, or with data")),
                };
            }
            if begins != record.is_none() {
                return Err(wrong(at, "not an AWS block that may follow here"));
            }
            let piece = self.take_all(len)?;
            let whole = record.get_or_insert_default();
            whole.extend(piece);
            if whole.len() > RECORD_BYTES_MAX as usize {
                return Err(wrong(at, "a record of more than 16 MiB"));
            }
            if flags & 0x20 != 0 {
                return match record {
                    Some(bytes) if !bytes.is_empty() => Ok(Some(TapeItem::Record(bytes))),
                    _ => Err(wrong(at, "an empty record")),
                };
            }
        }
    }

    fn next_simh(&mut self) -> Result<Option<TapeItem>, String> {
        loop {
            let at = self.at;
            let Some(word) = self.take(4)? else { return Ok(None) };
            let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            let len = word & 0x00ff_ffff;
            match word {
                0 => return Ok(Some(TapeItem::Filemark)),
                0xffff_ffff => return Ok(None),
                // An erase gap.
                0xffff_fffe => {}
                _ if word >> 24 == 0x80 => return Err(wrong(at, "a record that was read with an error")),
                _ if word >> 24 != 0 || len == 0 => return Err(wrong(at, "not the length of a SIMH record")),
                _ => {
                    let bytes = self.take_all(len)?;
                    if len % 2 == 1 {
                        self.take_all(1)?;
                    }
                    if self.take_all(4)? != word.to_le_bytes() {
                        return Err(wrong(at, "the length behind the record differs"));
                    }
                    return Ok(Some(TapeItem::Record(bytes)));
                }
            }
        }
    }

    fn tgt_header(&mut self, at: u64) -> Result<TgtHeader, String> {
        self.from.seek(SeekFrom::Start(at)).map_err(|e| wrong(at, &e.to_string()))?;
        self.at = at;
        let bytes = self.take_all(48)?;
        let sum = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        if sum != Crc32c::of(&bytes[4..]).value() {
            return Err(wrong(at, "not a block header of tgt, or a damaged one"));
        }
        Ok(TgtHeader {
            stored: be32(&bytes, 4),
            len: be32(&bytes, 8),
            kind: be32(&bytes, 12),
            current: be64(&bytes, 32),
            next: be64(&bytes, 40),
        })
    }

    fn next_tgt(&mut self) -> Result<Option<TapeItem>, String> {
        let at = self.at;
        let header = self.tgt_header(at)?;
        if header.current != at || (header.kind != TGT_END && header.next <= at) {
            return Err(wrong(at, "a block header that belongs elsewhere"));
        }
        let item = match header.kind {
            TGT_END => return Ok(None),
            TGT_FILEMARK => TapeItem::Filemark,
            TGT_DATA if header.stored == header.len && (1..=RECORD_BYTES_MAX).contains(&header.len) => {
                TapeItem::Record(self.take_all(header.len)?)
            }
            _ => return Err(wrong(at, "a block that is compressed, encrypted, or not written by tgt")),
        };
        self.at = header.next;
        Ok(Some(item))
    }
}

const TGT_DATA: u32 = 0x02;
const TGT_BEGINNING: u32 = 0x10;
const TGT_END: u32 = 0x20;
const TGT_FILEMARK: u32 = 0x40;

/// The header of a block of tgt.
struct TgtHeader {
    stored: u32,
    len: u32,
    kind: u32,
    current: u64,
    next: u64,
}

/// Writes objects.
#[derive(Debug)]
pub(super) struct ForeignWriter<W> {
    format: ForeignFormat,
    to: W,
    /// Bytes of the last block of AWS.
    before: u16,
}

impl<W: Write> ForeignWriter<W> {
    pub(super) fn new(format: ForeignFormat, to: W) -> Self {
        Self { format, to, before: 0 }
    }

    /// Why a record of that length does not fit into the format.
    pub(super) fn refuses(&self, len: usize) -> Option<&'static str> {
        (self.format == ForeignFormat::Simh && len > 0x00ff_ffff)
            .then_some("SIMH has records of up to 16 MiB - 1")
    }

    pub(super) fn put(&mut self, item: &TapeItem) -> io::Result<()> {
        match (self.format, item) {
            (ForeignFormat::Aws, TapeItem::Filemark) => self.put_aws(&[], 0x40),
            (ForeignFormat::Aws, TapeItem::Record(bytes)) => {
                let last = bytes.len().div_ceil(usize::from(u16::MAX)) - 1;
                for (number, piece) in bytes.chunks(u16::MAX.into()).enumerate() {
                    let flags = if number == 0 { 0x80 } else { 0 } | if number == last { 0x20 } else { 0 };
                    self.put_aws(piece, flags)?;
                }
                Ok(())
            }
            (_, TapeItem::Filemark) => self.to.write_all(&[0; 4]),
            (_, TapeItem::Record(bytes)) => {
                let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
                self.to.write_all(&len)?;
                self.to.write_all(bytes)?;
                self.to.write_all(&[0][..bytes.len() % 2])?;
                self.to.write_all(&len)
            }
        }
    }

    fn put_aws(&mut self, piece: &[u8], flags: u8) -> io::Result<()> {
        let len = u16::try_from(piece.len()).unwrap_or(u16::MAX);
        let [a, b] = len.to_le_bytes();
        let [c, d] = std::mem::replace(&mut self.before, len).to_le_bytes();
        self.to.write_all(&[a, b, c, d, flags, 0])?;
        self.to.write_all(piece)
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        if self.format == ForeignFormat::Simh {
            self.to.write_all(&[0xff; 4])?;
        }
        self.to.flush()?;
        Ok(self.to)
    }
}
