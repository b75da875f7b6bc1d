// SPDX-License-Identifier: GPL-2.0-or-later
//! Tape data encryption (SSC-4 4.2.25 and 8.5): the key that initiators give a drive, and what is done with it. It is
//! in memory only, gone with a reset, and never part of anything that is printed.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes256Gcm, Key, KeyInit, Nonce};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::scsi::{Sense, asc};
use crate::wire::scsi::be16;

/// Bytes of a key, and of what authenticates a frame.
const KEY: usize = 32;
pub(super) const TAG: usize = 16;

/// Longest key-associated data: not authenticated, and authenticated.
pub(super) const UKAD_MAX: usize = 32;
pub(super) const AKAD_MAX: usize = 60;

/// The head of an encrypted payload: its length (2), algorithm, format and lengths of the key-associated data (1 each),
/// zero (2), salt (32), check of the key (8), and that data.
const HEAD: usize = 48;
const SALT_AT: usize = 8;
const SALT: usize = 32;
const CHECK_AT: usize = SALT_AT + SALT;
pub(super) const HEAD_MAX: usize = HEAD + UKAD_MAX + AKAD_MAX;

/// The one algorithm: AES-256-GCM, by its index and as IKEv2 knows it.
pub(super) const ALGORITHM_INDEX: u8 = 1;
pub(super) const ALGORITHM: u32 = 0x0001_0014;

/// A key with what initiators have it marked by.
pub(super) struct DataKey {
    key: Zeroizing<[u8; KEY]>,
    /// How the data below is to be understood.
    format: u8,
    unauthenticated: Vec<u8>,
    authenticated: Vec<u8>,
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey")
    }
}

fn hashed(parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    Zeroizing::new(hash.finalize().into())
}

impl DataKey {
    /// The key of one record, so that no number is ever used twice with one key, and what tells that it is right.
    fn of_record(&self, salt: &[u8]) -> (Aes256Gcm, [u8; 8]) {
        let key = hashed(&[b"ptgt tape record", &*self.key, salt]);
        let check = hashed(&[b"ptgt tape check", &*key]);
        let check = *check.first_chunk().expect("8 of 32 bytes");
        (Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key)), check)
    }
}

/// Encrypts or decrypts the frames of a record, in their order.
pub(super) struct RecordCipher {
    cipher: Aes256Gcm,
    /// What is authenticated with each frame: the head of the payload, and the length of the record.
    context: Vec<u8>,
    frame: u32,
}

impl fmt::Debug for RecordCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordCipher")
    }
}

/// Why a record is not decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DecryptFault {
    /// It is not what such a record can be.
    Malformed,
    WrongKey,
    NotAuthentic,
}

impl RecordCipher {
    /// For a new record, with the head of its payload.
    pub(super) fn new(key: &DataKey, salt: &[u8; SALT], logical: u32) -> (Self, Vec<u8>) {
        let (cipher, check) = key.of_record(salt);
        let DataKey { format, unauthenticated, authenticated, .. } = key;
        let length = HEAD + unauthenticated.len() + authenticated.len();
        let mut head = (length as u16).to_be_bytes().to_vec();
        head.extend([ALGORITHM_INDEX, *format, unauthenticated.len() as u8, authenticated.len() as u8, 0, 0]);
        for part in [&salt[..], &check, unauthenticated, authenticated] {
            head.extend_from_slice(part);
        }
        (Self { cipher, context: context(&head, logical), frame: 0 }, head)
    }

    /// For a record whose payload has this head.
    pub(super) fn of(key: &DataKey, head: &[u8], logical: u32) -> Result<Self, DecryptFault> {
        let (cipher, check) = key.of_record(&head[SALT_AT..CHECK_AT]);
        match check == head[CHECK_AT..HEAD] {
            true => Ok(Self { cipher, context: context(head, logical), frame: 0 }),
            false => Err(DecryptFault::WrongKey),
        }
    }

    fn next(&mut self, header: &[u8]) -> (Nonce<aes_gcm::aes::cipher::consts::U12>, Vec<u8>) {
        let mut number = [0; 12];
        number[8..].copy_from_slice(&self.frame.to_be_bytes());
        self.frame += 1;
        (number.into(), [&self.context, header].concat())
    }

    /// Encrypts a frame with that header, and puts what authenticates it behind.
    pub(super) fn encrypt(&mut self, header: &[u8], frame: &mut Vec<u8>) {
        let (number, with) = self.next(header);
        let buffer = InOutBuf::from(&mut frame[..]);
        let tag = self.cipher.encrypt_inout_detached(&number, &with, buffer).expect("a frame is short");
        frame.extend_from_slice(&tag);
    }

    /// Decrypts it.
    pub(super) fn decrypt(&mut self, header: &[u8], frame: &mut Vec<u8>) -> Result<(), DecryptFault> {
        let (number, with) = self.next(header);
        let Some((body, tag)) = frame.split_last_chunk_mut::<TAG>() else {
            return Err(DecryptFault::Malformed);
        };
        let tag = (*tag).into();
        let decrypted = self.cipher.decrypt_inout_detached(&number, &with, InOutBuf::from(body), &tag);
        decrypted.map_err(|_| DecryptFault::NotAuthentic)?;
        frame.truncate(frame.len() - TAG);
        Ok(())
    }
}

fn context(head: &[u8], logical: u32) -> Vec<u8> {
    [head, &logical.to_be_bytes()].concat()
}

/// Length of the head of a payload, as far as its first bytes tell.
pub(super) fn head_length(bytes: &[u8]) -> Result<usize, DecryptFault> {
    if bytes.len() < HEAD {
        return Ok(HEAD);
    }
    let length = usize::from(be16(bytes, 0));
    let (unauthenticated, authenticated) = (usize::from(bytes[4]), usize::from(bytes[5]));
    let good = bytes[2] == ALGORITHM_INDEX
        && unauthenticated <= UKAD_MAX
        && authenticated <= AKAD_MAX
        && length == HEAD + unauthenticated + authenticated;
    if good { Ok(length) } else { Err(DecryptFault::Malformed) }
}

/// Format and key-associated data in the head of a payload, which is whole.
pub(super) fn key_data(head: &[u8]) -> (u8, &[u8], &[u8]) {
    let (unauthenticated, authenticated) = head[HEAD..].split_at(head[4].into());
    (head[3], unauthenticated, authenticated)
}

/// What is done with encrypted records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum DecryptMode {
    /// They are not read.
    #[default]
    Off = 0,
    /// Only they are read.
    On = 2,
    /// They and others are read.
    Mixed = 3,
}

/// The data encryption parameters of a drive: one set, for all nexuses.
#[derive(Debug, Default)]
pub(super) struct TapeEncryption {
    pub(super) encrypts: bool,
    pub(super) decrypts: DecryptMode,
    pub(super) key: Option<Arc<DataKey>>,
    /// The key goes when the cartridge does.
    clear_on_demount: bool,
    /// KEY INSTANCE COUNTER.
    pub(super) instance: u32,
    salts: Salts,
}

/// What makes the key of each record another one: a number that no other start has drawn, and a count. A clock would
/// not do: after a restart the same key comes again, and the time may, too.
#[derive(Debug)]
struct Salts {
    start: [u64; 3],
    records: u64,
}

impl Default for Salts {
    fn default() -> Self {
        Self { start: [(); 3].map(|()| RandomState::new().hash_one(0)), records: 0 }
    }
}

impl Salts {
    fn next(&mut self) -> [u8; SALT] {
        let [a, b, c] = self.start;
        self.records += 1;
        let mut salt = [0; SALT];
        for (bytes, part) in salt.chunks_exact_mut(8).zip([a, b, c, self.records]) {
            bytes.copy_from_slice(&part.to_be_bytes());
        }
        salt
    }
}

impl TapeEncryption {
    /// Forgets the key.
    pub(super) fn clear(&mut self) {
        let instance = self.instance + u32::from(self.key.is_some());
        *self = Self { instance, ..Self::default() };
    }

    /// The cartridge goes out.
    pub(super) fn demount(&mut self) {
        if self.clear_on_demount {
            self.clear();
        }
    }

    /// The cipher for the next record that is written, and the head of its payload, if records are encrypted.
    pub(super) fn cipher(&mut self, logical: u32) -> Option<(RecordCipher, Vec<u8>)> {
        let key = self.key.as_ref().filter(|_| self.encrypts)?;
        Some(RecordCipher::new(key, &self.salts.next(), logical))
    }

    /// The key-associated data of the key.
    pub(super) fn key_data(&self) -> Option<(u8, &[u8], &[u8])> {
        let key = self.key.as_ref()?;
        Some((key.format, &key.unauthenticated, &key.authenticated))
    }

    /// SET DATA ENCRYPTION: all of the page, or nothing. Returns whether anything changed.
    pub(super) fn set(&mut self, page: &[u8]) -> Result<bool, Sense> {
        const LOCK: u8 = 0x01;
        const PUBLIC: u8 = 0;
        const ALL_NEXUSES: u8 = 2;
        const CEEM: u8 = 0xc0;
        const CEEM_EXTERNAL: u8 = 0x80;
        const RDMC: u8 = 0x30;
        const SDK: u8 = 0x08;
        const CKOD: u8 = 0x04;
        const CKORP_CKORL: u8 = 0x03;
        const HEADER: usize = 20;
        let length_error = || Sense::illegal(asc::PARAMETER_LIST_LENGTH_ERROR);
        if page.len() < HEADER || usize::from(be16(page, 2)) != page.len() - 4 {
            return Err(length_error());
        }
        match page[4] >> 5 {
            PUBLIC => return Ok(false),
            ALL_NEXUSES if page[4] & LOCK == 0 => {}
            _ => return Err(wrong(4)),
        }
        let flags = page[5];
        let raw = flags & RDMC != 0 && flags & RDMC != RDMC;
        if flags & CEEM >= CEEM_EXTERNAL || raw || flags & (SDK | CKORP_CKORL) != 0 {
            return Err(wrong(5));
        }
        let encrypts = match page[6] {
            0 => false,
            2 => true,
            _ => return Err(wrong(6)),
        };
        let decrypts = match page[7] {
            0 => DecryptMode::Off,
            2 => DecryptMode::On,
            3 => DecryptMode::Mixed,
            _ => return Err(wrong(7)),
        };
        let key_length = usize::from(be16(page, 18));
        let key = page.get(HEADER..HEADER + key_length).ok_or_else(length_error)?;
        if !encrypts && decrypts == DecryptMode::Off {
            // Whatever else the page has does not count.
            let changed = self.key.is_some();
            self.clear();
            return Ok(changed);
        }
        if page[8] != ALGORITHM_INDEX {
            return Err(wrong(8));
        }
        if page[9] != 0 {
            return Err(wrong(9));
        }
        let key: [u8; KEY] = key.try_into().map_err(|_| wrong(18))?;
        let mut key = DataKey {
            key: Zeroizing::new(key),
            format: page[10],
            unauthenticated: Vec::new(),
            authenticated: Vec::new(),
        };
        take_key_data(page, HEADER + KEY, &mut key)?;
        let (instance, key) = (self.instance + 1, Some(Arc::new(key)));
        let clear_on_demount = flags & CKOD != 0;
        *self = Self { encrypts, decrypts, key, clear_on_demount, instance, salts: Salts::default() };
        Ok(true)
    }
}

/// A byte of the page that is wrong.
fn wrong(byte: usize) -> Sense {
    let byte = u16::try_from(byte).unwrap_or(u16::MAX);
    Sense::illegal(asc::INVALID_FIELD_IN_PARAMETER_LIST).pointing_at(false, byte, None)
}

/// Descriptors of key-associated data, in ascending order of their types.
fn take_key_data(page: &[u8], from: usize, key: &mut DataKey) -> Result<(), Sense> {
    const DESCRIPTOR: usize = 4;
    let mut at = from;
    let mut least = 0;
    while at < page.len() {
        let header = page.get(at..at + DESCRIPTOR).ok_or_else(|| wrong(at))?;
        let length = usize::from(be16(header, 2));
        let data = page.get(at + DESCRIPTOR..at + DESCRIPTOR + length).ok_or_else(|| wrong(at + 2))?;
        let (to, most) = match header[0] {
            0 => (&mut key.unauthenticated, UKAD_MAX),
            1 => (&mut key.authenticated, AKAD_MAX),
            _ => return Err(wrong(at)),
        };
        if header[0] < least {
            return Err(wrong(at));
        }
        if length > most {
            return Err(wrong(at + 2));
        }
        to.extend_from_slice(data);
        least = header[0] + 1;
        at += DESCRIPTOR + length;
    }
    Ok(())
}
