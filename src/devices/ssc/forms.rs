// SPDX-License-Identifier: GPL-2.0-or-later
//! What is done to a record on its way to the cartridge and back: protection information is taken off and put on, and
//! the record is compressed and encrypted. docs/tape-format.md describes the payload that comes of it. Memory is
//! bounded by a frame and what the caller gives at once, whatever the payload says.

use std::sync::Arc;

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};

use super::encryption::{DataKey, DecryptFault, HEAD_MAX, RecordCipher, TAG, head_length};
use crate::wire::Crc32c;
use crate::wire::scsi::be32;

/// The payload is the record.
pub(super) const AS_IT_IS: u8 = 0;
/// The payload is frames, each of them compressed by LZ4 if that makes it shorter.
pub(super) const COMPRESSED: u8 = 1;

/// Frames are encrypted, and in front of the first is what has to be known for it.
pub(super) const ENCRYPTED: u8 = 2;

/// Bytes of protection information behind a record.
pub(super) const PROTECTION: u32 = 4;

/// Most bytes of a record in a frame, and of its header.
const FRAME: usize = 64 << 10;
const HEADER: usize = 8;

/// Most bytes of the payload of a record.
pub(super) fn stored_max(logical: u32) -> u32 {
    logical + logical.div_ceil(FRAME as u32) * (HEADER + TAG) as u32 + HEAD_MAX as u32
}

/// The protection information does not go with the record.
#[derive(Debug)]
pub(super) struct GuardFailed;

/// Makes the payload of a record.
pub(super) struct RecordEncoder {
    form: u8,
    /// Bytes of the record that are yet to come.
    left: u32,
    /// Protection information follows: the sum of the record, and what has come of that of the initiator.
    guard: Option<(Crc32c, Vec<u8>)>,
    frame: Vec<u8>,
    table: Option<CompressTable>,
    cipher: Option<RecordCipher>,
    /// Payload that is to be written.
    pub(super) out: Vec<u8>,
    /// All of it so far.
    stored: u32,
    sum: Crc32c,
}

impl std::fmt::Debug for RecordEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordEncoder")
            .field("form", &self.form)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl RecordEncoder {
    /// For a record of that length; `cipher` comes with the head of its payload.
    pub(super) fn new(
        compress: bool,
        logical: u32,
        protected: bool,
        cipher: Option<(RecordCipher, Vec<u8>)>,
    ) -> Self {
        let form = if compress { COMPRESSED } else { 0 } | if cipher.is_some() { ENCRYPTED } else { 0 };
        let (cipher, head) = cipher.unzip();
        let mut encoder = Self {
            form,
            left: logical,
            guard: protected.then(|| (Crc32c::default(), Vec::new())),
            frame: Vec::new(),
            table: None,
            cipher,
            out: Vec::new(),
            stored: 0,
            sum: Crc32c::default(),
        };
        encoder.emit(&head.unwrap_or_default());
        encoder
    }

    /// What it does to the record.
    pub(super) fn form(&self) -> u8 {
        self.form
    }

    /// Takes more of what the initiator sends.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let (mut record, guard) = bytes.split_at(bytes.len().min(self.left as usize));
        self.left -= record.len() as u32;
        if let Some((sum, given)) = &mut self.guard {
            sum.update(record);
            given.extend_from_slice(guard);
        }
        if self.form == AS_IT_IS {
            self.emit(record);
            return;
        }
        while !record.is_empty() {
            let (piece, rest) = record.split_at(record.len().min(FRAME - self.frame.len()));
            self.frame.extend_from_slice(piece);
            record = rest;
            if self.frame.len() == FRAME {
                self.close();
            }
        }
    }

    fn emit(&mut self, bytes: &[u8]) {
        self.sum.update(bytes);
        self.stored += bytes.len() as u32;
        self.out.extend_from_slice(bytes);
    }

    /// Writes the frame that has been collected.
    fn close(&mut self) {
        if self.frame.is_empty() {
            return;
        }
        let mut frame = std::mem::take(&mut self.frame);
        let logical = frame.len() as u32;
        if self.form & COMPRESSED != 0 {
            let mut packed = vec![0; get_maximum_output_size(frame.len())];
            let table = self.table.get_or_insert_with(CompressTable::default);
            let shorter = compress_into_with_table(&frame, &mut packed, table).ok();
            if let Some(len) = shorter.filter(|len| *len < frame.len()) {
                packed.truncate(len);
                frame = packed;
            }
        }
        let stored = frame.len() + if self.cipher.is_some() { TAG } else { 0 };
        let header = [(stored as u32).to_be_bytes(), logical.to_be_bytes()];
        if let Some(cipher) = &mut self.cipher {
            cipher.encrypt(header.as_flattened(), &mut frame);
        }
        self.emit(header.as_flattened());
        self.emit(&frame);
    }

    /// All has come. Returns length and sum of the payload.
    pub(super) fn finish(&mut self) -> Result<(u32, u32), GuardFailed> {
        self.close();
        match &self.guard {
            Some((sum, given)) if sum.wire() != given[..] => Err(GuardFailed),
            _ => Ok((self.stored, self.sum.value())),
        }
    }
}

/// Makes a record of its payload.
#[derive(Debug)]
pub(super) struct RecordDecoder {
    form: u8,
    /// Bytes of the record that are yet to come.
    left: u32,
    /// Protection information is wanted behind it.
    guard: Option<Crc32c>,
    /// Of the head or a frame that is not whole yet.
    frame: Vec<u8>,
    logical: u32,
    /// For an encrypted record; what is made of it when the head has come.
    key: Option<Arc<DataKey>>,
    cipher: Option<RecordCipher>,
}

impl RecordDecoder {
    /// For a record of that length, and with a key for one that is encrypted.
    pub(super) fn new(form: u8, logical: u32, protected: bool, key: Option<Arc<DataKey>>) -> Self {
        let (guard, frame) = (protected.then(Crc32c::default), Vec::new());
        Self { form, left: logical, guard, frame, logical, key, cipher: None }
    }

    /// The head of an encrypted payload is yet to come.
    fn lacks_head(&self) -> bool {
        self.form & ENCRYPTED != 0 && self.cipher.is_none()
    }

    /// Takes payload until that much of the record has come of it, and appends that. Returns how much it has taken.
    pub(super) fn push(
        &mut self,
        payload: &[u8],
        enough: usize,
        record: &mut Vec<u8>,
    ) -> Result<usize, DecryptFault> {
        let from = record.len();
        let mut rest = payload;
        if self.form == AS_IT_IS {
            let (piece, others) = rest.split_at(rest.len().min(enough));
            record.extend_from_slice(piece);
            rest = others;
        }
        while !rest.is_empty() && record.len() - from < enough {
            let wanted = self.wanted()?;
            let (piece, others) = rest.split_at(rest.len().min(wanted - self.frame.len()));
            self.frame.extend_from_slice(piece);
            rest = others;
            if self.frame.len() == self.wanted()? {
                self.open(record)?;
            }
        }
        let new = &record[from..];
        let left = self.left.checked_sub(u32::try_from(new.len()).map_err(|_| DecryptFault::Malformed)?);
        self.left = left.ok_or(DecryptFault::Malformed)?;
        if let Some(guard) = &mut self.guard {
            guard.update(new);
        }
        Ok(payload.len() - rest.len())
    }

    /// Length of the frame, as far as its header is known.
    fn wanted(&self) -> Result<usize, DecryptFault> {
        if self.lacks_head() {
            return head_length(&self.frame);
        }
        if self.frame.len() < HEADER {
            return Ok(HEADER);
        }
        let (stored, logical) = (be32(&self.frame, 0) as usize, be32(&self.frame, 4) as usize);
        let tag = if self.cipher.is_some() { TAG } else { 0 };
        let good = (1..=FRAME).contains(&logical) && (1 + tag..=logical + tag).contains(&stored);
        if good { Ok(HEADER + stored) } else { Err(DecryptFault::Malformed) }
    }

    fn open(&mut self, record: &mut Vec<u8>) -> Result<(), DecryptFault> {
        if self.lacks_head() {
            let head = std::mem::take(&mut self.frame);
            let key = self.key.as_ref().ok_or(DecryptFault::WrongKey)?;
            self.cipher = Some(RecordCipher::of(key, &head, self.logical)?);
            return Ok(());
        }
        let logical = be32(&self.frame, 4) as usize;
        let mut body = self.frame.split_off(HEADER);
        if let Some(cipher) = &mut self.cipher {
            cipher.decrypt(&self.frame, &mut body)?;
        }
        if body.len() == logical {
            record.extend_from_slice(&body);
        } else {
            let from = record.len();
            record.resize(from + logical, 0);
            let len = decompress_into(&body, &mut record[from..]).map_err(|_| DecryptFault::Malformed)?;
            if len != logical {
                return Err(DecryptFault::Malformed);
            }
        }
        self.frame.clear();
        Ok(())
    }

    /// All payload has come: appends the protection information, if it is wanted.
    pub(super) fn finish(&self, record: &mut Vec<u8>) -> Result<(), DecryptFault> {
        if self.left != 0 || !self.frame.is_empty() || self.lacks_head() {
            return Err(DecryptFault::Malformed);
        }
        if let Some(guard) = &self.guard {
            record.extend(guard.wire());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::encryption::TapeEncryption;
    use super::*;

    fn encoded(form: u8, record: &[u8], pieces: usize) -> (Vec<u8>, u32) {
        let mut encoder = RecordEncoder::new(form == COMPRESSED, record.len() as u32, false, None);
        record.chunks(pieces).for_each(|piece| encoder.push(piece));
        let (stored, sum) = encoder.finish().unwrap();
        assert_eq!((stored as usize, sum), (encoder.out.len(), Crc32c::of(&encoder.out).value()));
        assert!(stored <= stored_max(record.len() as u32));
        (encoder.out, sum)
    }

    fn decoded(form: u8, payload: &[u8], logical: u32, pieces: usize) -> Result<Vec<u8>, DecryptFault> {
        let mut decoder = RecordDecoder::new(form, logical, false, None);
        let mut record = Vec::new();
        for mut piece in payload.chunks(pieces.max(1)) {
            while !piece.is_empty() {
                let before = record.len();
                let taken = decoder.push(piece, pieces, &mut record)?;
                assert!(record.len() - before <= pieces + FRAME, "bounded, whatever the payload says");
                piece = &piece[taken..];
            }
        }
        decoder.finish(&mut record)?;
        Ok(record)
    }

    proptest! {
        #[test]
        fn a_record_comes_back_in_whatever_pieces(
            seed in any::<u32>(), len in 1usize..300_000, random in any::<bool>(), pieces in 1usize..100_000,
        ) {
            let next = |at: usize| (seed ^ (at as u32)).wrapping_mul(0x9e37_79b9) >> 24;
            let record: Vec<u8> = (0..len).map(|at| next(if random { at } else { at >> 9 }) as u8).collect();
            for form in [AS_IT_IS, COMPRESSED] {
                let (payload, _) = encoded(form, &record, pieces);
                prop_assert!(decoded(form, &payload, len as u32, pieces + 1).unwrap() == record);
            }
        }

        #[test]
        fn payload_of_any_kind_is_a_record_or_refused(
            mut payload in prop::collection::vec(any::<u8>(), 0..4000), logical in 0u32..200_000, at in 0usize..4,
        ) {
            // Lengths that are nearly right.
            if let Some(header) = payload.get_mut(..8) {
                header[..4].copy_from_slice(&[[0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [255; 4]][at]);
                header[4..8].copy_from_slice(&[[0, 1, 0, 0], [0, 0, 16, 0], [0, 1, 0, 1], [255; 4]][at]);
            }
            if let Ok(record) = decoded(COMPRESSED, &payload, logical, 700) {
                prop_assert_eq!(record.len(), logical as usize);
            }
        }
    }

    fn key(byte: u8) -> Arc<DataKey> {
        let mut page = vec![0, 0x10, 0, 48, 0x40, 0, 2, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32];
        page.extend([byte; 32]);
        let mut encryption = TapeEncryption::default();
        assert!(encryption.set(&page).unwrap());
        encryption.key.unwrap()
    }

    fn encrypted(record: &[u8], salt: u8) -> Vec<u8> {
        let cipher = RecordCipher::new(&key(1), &[salt; 32], record.len() as u32);
        let mut encoder = RecordEncoder::new(false, record.len() as u32, false, Some(cipher));
        record.chunks(1000).for_each(|piece| encoder.push(piece));
        let (stored, _) = encoder.finish().unwrap();
        assert!(stored <= stored_max(record.len() as u32));
        encoder.out
    }

    fn decrypted(payload: &[u8], logical: u32, with: u8) -> Result<Vec<u8>, DecryptFault> {
        let mut decoder = RecordDecoder::new(ENCRYPTED, logical, false, Some(key(with)));
        let mut record = Vec::new();
        for piece in payload.chunks(777) {
            decoder.push(piece, usize::MAX, &mut record)?;
        }
        decoder.finish(&mut record).map(|()| record)
    }

    #[test]
    fn whatever_is_changed_of_an_encrypted_payload_is_found() {
        let record: Vec<u8> =
            (0..2 * FRAME + 99).map(|at| (at as u32).wrapping_mul(0x9e37_79b9).to_be_bytes()[0]).collect();
        let logical = record.len() as u32;
        let payload = encrypted(&record, 1);
        assert!(decrypted(&payload, logical, 1).unwrap() == record);
        assert_eq!(decrypted(&payload, logical, 2), Err(DecryptFault::WrongKey));
        for at in (0..payload.len()).step_by(payload.len() / 300) {
            let mut changed = payload.clone();
            changed[at] ^= 1;
            assert!(decrypted(&changed, logical, 1).is_err(), "{at}");
        }
        let mut changed = payload.clone();
        changed[5000] ^= 1;
        assert_eq!(decrypted(&changed, logical, 1), Err(DecryptFault::NotAuthentic));
        // A frame in the place of another of its length, one that is left out, and another length of the record.
        let frame = HEADER + FRAME + TAG;
        let head = payload.len() - 2 * frame - (HEADER + 99 + TAG);
        let mut swapped = payload.clone();
        swapped[head..head + 2 * frame].rotate_left(frame);
        assert_eq!(decrypted(&swapped, logical, 1), Err(DecryptFault::NotAuthentic));
        let cut = [&payload[..head + frame], &payload[head + 2 * frame..]].concat();
        assert!(decrypted(&cut, logical - FRAME as u32, 1).is_err());
        // No two payloads have anything in common.
        assert_ne!(encrypted(&record, 2)[head..head + 100], payload[head..head + 100]);
    }

    #[test]
    fn a_payload_that_is_cut_is_no_record() {
        let record = vec![5; 3 * FRAME];
        let (payload, _) = encoded(COMPRESSED, &record, FRAME);
        for end in (0..payload.len()).step_by(payload.len() / 12) {
            assert!(decoded(COMPRESSED, &payload[..end], record.len() as u32, FRAME).is_err(), "{end}");
        }
    }

    #[test]
    fn a_guard_that_is_wrong_is_found_wherever_it_is_cut() {
        let record = [9; 5000];
        for cut in [1, 4999, 5000, 5002, 5004] {
            for wrong in [0, 1] {
                let mut all = record.to_vec();
                all.extend(Crc32c::of(&record).wire());
                all[4999] ^= wrong;
                let mut encoder = RecordEncoder::new(true, 5000, true, None);
                all.chunks(cut).for_each(|piece| encoder.push(piece));
                assert_eq!(encoder.finish().is_err(), wrong == 1);
            }
        }
    }
}
