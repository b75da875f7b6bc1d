// SPDX-License-Identifier: GPL-2.0-or-later
//! The beginning and the end of a session: login, what the disk is like, logout.

use std::io;

use crate::fabrics::iscsi::initiator::{Initiator, Packet, Transfer};
use crate::fabrics::iscsi::{Account, Algorithm};
use crate::scsi::{Lun, Sense};
use crate::wire::iscsi::{
    DataInHeader, LoginResponseHeader, Opcode, ScsiResponseHeader, binary, number, pairs,
};

/// What we offer; every target may ask for less.
const OFFER: &[(&str, &str)] = &[
    ("HeaderDigest", "None"),
    ("DataDigest", "None"),
    ("MaxConnections", "1"),
    ("InitialR2T", "No"),
    ("ImmediateData", "Yes"),
    ("MaxRecvDataSegmentLength", "262144"),
    ("MaxBurstLength", "1048576"),
    ("FirstBurstLength", "262144"),
    ("DefaultTime2Wait", "2"),
    ("DefaultTime2Retain", "0"),
    ("MaxOutstandingR2T", "1"),
    ("DataPDUInOrder", "Yes"),
    ("DataSequenceInOrder", "Yes"),
    ("ErrorRecoveryLevel", "0"),
];

/// Unit attentions that a new nexus may meet before its commands are served.
const ATTENTIONS_MAX: usize = 8;

/// LOGICAL UNIT NOT SUPPORTED.
const NO_UNIT: u16 = 0x2500;

/// A byte stream to a target, for one who waits for answers.
pub(super) trait Stream {
    /// Sends all of it.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Waits for bytes and appends them.
    fn receive(&mut self, bytes: &mut Vec<u8>) -> io::Result<()>;
}

/// Whom to log in to, and as whom.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    pub(super) initiator: String,
    pub(super) target: String,
    pub(super) lun: u16,
    pub(super) isid: [u8; 6],
    /// By CHAP, if with one.
    pub(super) account: Option<Account>,
}

/// What was agreed on, and what the disk is like.
#[derive(Clone, Debug)]
pub(super) struct LoggedIn {
    pub(super) lun: u64,
    /// Bytes of a logical block, and of all.
    pub(super) block: u32,
    pub(super) bytes: u64,
    pub(super) immediate_data: bool,
    pub(super) initial_r2t: bool,
    pub(super) first_burst: u32,
    /// Longest data segment that the target takes.
    pub(super) segment: u32,
    pub(super) cmd_sn: u32,
    pub(super) max_cmd_sn: u32,
    pub(super) exp_stat_sn: u32,
}

/// A request, and what the target sends until its answer has ended: what comes before the last PDU, and that one.
fn exchange(
    initiator: &mut Initiator,
    stream: &mut dyn Stream,
    request: &Packet,
) -> Result<(Vec<Packet>, Packet), String> {
    let fail = |e: io::Error| format!("the connection failed: {e}");
    stream.send(&request.encode(initiator.digests)).map_err(fail)?;
    // The last PDU of an answer carries the status or is the answer itself.
    let goes_on = |last: &Packet| match last.header::<DataInHeader>() {
        Some(data) => !data.has_status,
        None => last.opcode() == Opcode::NOP_IN,
    };
    let mut packets = Vec::new();
    loop {
        let mut bytes = Vec::new();
        stream.receive(&mut bytes).map_err(fail)?;
        take(initiator, &bytes, &mut packets)?;
        if let Some(last) = packets.pop_if(|last| !goes_on(last)) {
            return Ok((packets, last));
        }
    }
}

/// Takes bytes of the target's, and what PDUs are whole with them.
fn take(initiator: &mut Initiator, bytes: &[u8], packets: &mut Vec<Packet>) -> Result<(), String> {
    initiator.push(bytes);
    while let Some(packet) = initiator.next().map_err(|e| format!("the target breaks the protocol: {e}"))? {
        packets.push(packet);
    }
    Ok(())
}

/// The answer to the first login request, which sets the target's StatSN.
fn first_exchange(
    initiator: &mut Initiator,
    stream: &mut dyn Stream,
    request: &Packet,
) -> Result<Packet, String> {
    let fail = |e: io::Error| format!("the connection failed: {e}");
    stream.send(&request.encode(initiator.digests)).map_err(fail)?;
    let mut bytes = Vec::new();
    loop {
        stream.receive(&mut bytes).map_err(fail)?;
        if let Some(stat_sn) = bytes.get(24..28) {
            initiator.exp_stat_sn = u32::from_be_bytes(stat_sn.try_into().expect("four bytes"));
            break;
        }
    }
    let mut packets = Vec::new();
    take(initiator, &bytes, &mut packets)?;
    while packets.is_empty() {
        bytes.clear();
        stream.receive(&mut bytes).map_err(fail)?;
        take(initiator, &bytes, &mut packets)?;
    }
    Ok(packets.swap_remove(0))
}

/// A login request and its answer, which is no refusal.
fn login_exchange(
    initiator: &mut Initiator,
    stream: &mut dyn Stream,
    request: &Packet,
) -> Result<Packet, String> {
    let answer = match initiator.exp_stat_sn {
        0 => first_exchange(initiator, stream, request)?,
        _ => exchange(initiator, stream, request)?.1,
    };
    let Some(LoginResponseHeader { status, .. }) = answer.header() else {
        return Err(format!("the target answers a login with {:?}", answer.opcode()));
    };
    if status != 0 {
        let why = match status {
            0x0203 => " (no such target here)",
            0x0201 | 0x0202 => {
                " (the target wants authentication, another secret, or does not know this initiator)"
            }
            0x0206 | 0x0302 => " (it has too many sessions)",
            _ => "",
        };
        return Err(format!("the target refuses the login: status {status:#06x}{why}"));
    }
    Ok(answer)
}

/// The security negotiation: CHAP in one direction (RFC 7143 12.1.3).
fn authenticate(
    initiator: &mut Initiator,
    stream: &mut dyn Stream,
    names: &[(&str, &str)],
    account: &Account,
) -> Result<(), String> {
    let value = |answer: &Packet, key: &str| {
        let found = pairs(&answer.data).flatten().find(|pair| pair.key == key);
        found.map(|pair| pair.value.to_owned())
    };
    let offer: Vec<(&str, &str)> = names.iter().copied().chain([("AuthMethod", "CHAP")]).collect();
    let request = initiator.login(0, None, &offer);
    let answer = login_exchange(initiator, stream, &request)?;
    if value(&answer, "AuthMethod").as_deref() != Some("CHAP") {
        return Err("the target does not want authentication by CHAP: leave out --user".to_owned());
    }
    let algorithms = Algorithm::ALL.map(|algorithm| (algorithm as u8).to_string()).join(",");
    let request = initiator.login(0, None, &[("CHAP_A", &algorithms)]);
    let challenge = login_exchange(initiator, stream, &request)?;
    let part = |key| value(&challenge, key).ok_or_else(|| format!("the target's challenge has no {key}"));
    let chosen = number(&part("CHAP_A")?);
    let algorithm = Algorithm::ALL.into_iter().find(|algorithm| Some(*algorithm as u32) == chosen);
    let identifier = number(&part("CHAP_I")?).and_then(|number| u8::try_from(number).ok());
    let bytes = binary(&part("CHAP_C")?, 1024);
    let (Some(algorithm), Some(identifier), Some(bytes)) = (algorithm, identifier, bytes) else {
        return Err("the target's challenge cannot be understood".to_owned());
    };
    let response = account.response(algorithm, identifier, &bytes);
    let response = response.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"));
    let request = initiator.login(0, Some(1), &[("CHAP_N", &account.name), ("CHAP_R", &response)]);
    login_exchange(initiator, stream, &request).map(|_| ())
}

/// Logs in and waits until the disk serves commands.
pub(super) fn login(stream: &mut dyn Stream, who: &Credentials) -> Result<LoggedIn, String> {
    let mut initiator = Initiator::new();
    // No StatSN is known before the first answer.
    (initiator.isid, initiator.cmd_sn, initiator.exp_stat_sn) = (who.isid, 1, 0);
    let mut terms = LoggedIn {
        lun: Lun::from_index(who.lun).0,
        block: 0,
        bytes: 0,
        immediate_data: true,
        initial_r2t: false,
        first_burst: 262_144,
        segment: 8192,
        cmd_sn: 0,
        max_cmd_sn: 0,
        exp_stat_sn: 0,
    };
    let names =
        [("InitiatorName", &who.initiator[..]), ("SessionType", "Normal"), ("TargetName", &who.target)];
    let mut pairs: Vec<(&str, &str)> = OFFER.to_vec();
    match &who.account {
        None => pairs.extend(names),
        Some(account) => authenticate(&mut initiator, stream, &names, account)?,
    }
    for _ in 0..4 {
        let request = initiator.login(1, Some(3), &pairs);
        let answer = login_exchange(&mut initiator, stream, &request)?;
        terms.learn(&answer.data)?;
        if answer.ends_login() {
            ready(&mut initiator, stream, &mut terms)?;
            terms.cmd_sn = initiator.cmd_sn;
            (terms.max_cmd_sn, terms.exp_stat_sn) = (initiator.max_cmd_sn, initiator.exp_stat_sn);
            return Ok(terms);
        }
        // Some targets want to be asked once more.
        pairs.clear();
    }
    Err("the login does not finish".to_owned())
}

impl LoggedIn {
    fn learn(&mut self, text: &[u8]) -> Result<(), String> {
        for pair in pairs(text) {
            let pair = pair.map_err(|e| format!("the target's login answer: {e}"))?;
            let number = || pair.value.parse().map_err(|_| format!("{}={}: no number", pair.key, pair.value));
            match pair.key {
                "InitialR2T" => self.initial_r2t = pair.value == "Yes",
                "ImmediateData" => self.immediate_data = pair.value == "Yes",
                "FirstBurstLength" => self.first_burst = number()?,
                "MaxRecvDataSegmentLength" => self.segment = number()?,
                _ => {}
            }
        }
        // Whole words, so that no PDU needs padding.
        self.segment = (self.segment & !7).max(512);
        self.first_burst &= !7;
        Ok(())
    }
}

/// Waits for unit attentions to pass, and asks for the capacity.
fn ready(initiator: &mut Initiator, stream: &mut dyn Stream, terms: &mut LoggedIn) -> Result<(), String> {
    let mut command = |cdb: &[u8], len: u32| {
        let transfer = if len > 0 { Transfer::read(len) } else { Transfer::NONE };
        let request = initiator.command(terms.lun, cdb, transfer);
        let (packets, last) = exchange(initiator, stream, &request)?;
        let parts = packets.iter().chain([&last]).filter(|packet| packet.opcode() == Opcode::DATA_IN);
        let data: Vec<u8> = parts.flat_map(|packet| packet.data.clone()).collect();
        match (last.header::<DataInHeader>(), last.header::<ScsiResponseHeader>()) {
            (Some(DataInHeader { status, .. }), _) => Ok((status, data, None)),
            // Sense data lies behind its length.
            (_, Some(ScsiResponseHeader { status, .. })) => {
                Ok((status, data, last.data.get(2..).and_then(Sense::key_and_code)))
            }
            _ => Err(format!("the target answers a command with {:?}", last.opcode())),
        }
    };
    let (mut tries, lun) = (0, Lun(terms.lun));
    loop {
        let (status, _, sense) = command(&[0; 6], 0)?;
        match sense {
            _ if status == 0 => break,
            Some((_, NO_UNIT)) => return Err(format!("there is no LUN {lun} for this initiator")),
            _ if tries < ATTENTIONS_MAX => tries += 1,
            Some((key, code)) => {
                return Err(format!(
                    "LUN {lun} does not become ready: sense key {key:#x}, additional code {:#04x}/{:#04x}",
                    code >> 8,
                    code & 0xff
                ));
            }
            None => return Err(format!("LUN {lun} does not become ready: status {status:#04x}")),
        }
    }
    let mut read_capacity = [0; 16];
    (read_capacity[0], read_capacity[1], read_capacity[13]) = (0x9e, 0x10, 32);
    let (status, data, _) = command(&read_capacity, 32)?;
    let (last, block) = match (status, data.first_chunk::<8>(), data.get(8..12)) {
        (0, Some(last), Some(block)) => (u64::from_be_bytes(*last), block),
        _ => return Err("READ CAPACITY(16) fails".to_owned()),
    };
    terms.block = u32::from_be_bytes(block.try_into().expect("four bytes"));
    if terms.block == 0 {
        return Err("the disk has blocks of no bytes".to_owned());
    }
    terms.bytes = last.saturating_add(1).saturating_mul(u64::from(terms.block));
    Ok(())
}

/// Logs out, with the sequence numbers that the session has come to. A target that has gone needs no logout.
pub(super) fn logout(stream: &mut dyn Stream, (cmd_sn, exp_stat_sn): (u32, u32)) {
    let mut initiator = Initiator::new();
    (initiator.cmd_sn, initiator.exp_stat_sn) = (cmd_sn, exp_stat_sn);
    let request = initiator.logout(0);
    _ = stream.send(&request.encode(initiator.digests));
    _ = stream.receive(&mut Vec::new());
}
