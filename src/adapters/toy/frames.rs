// SPDX-License-Identifier: GPL-2.0-or-later
//! On raw Ethernet frames, of one of the ethertypes for local experiments (IEEE 802 9.2.3). A command or an answer is
//! one frame.
//!
//! The number of a session decides at which core it is; all else is for the first. There a target can be asked to take
//! another address, as fabrics give some.

use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{LUNS, ToyAnswer, ToyCommand, ToyFabric, ToyLuns, ToyMessage, ToyTargetOptions, ToyWire};
use crate::adapters::ethernet::{EthernetClient, EthernetShare};
use crate::adapters::fabric::KnownParts;
use crate::counters::Counted;
use crate::engine::fabric::{Fabric, FabricShare};
use crate::memory::{Arena, Sg};
use crate::net::{FrameClaim, RawFrame, TxFrame};
use crate::options::Absent::{Means, Required};
use crate::options::ValueKind::{Number, Tables, Text};
use crate::options::{Key, Section, Table, key};
use crate::reactor::CoreContext;
use crate::scsi::{Lun, UnitKey};
use crate::time::Instant;

/// Its targets in the configuration.
pub(crate) const KEYS: &[Key] =
    &[key(FrameTarget::KEY, Tables(TARGET), Means("none"), "", "Targets on raw Ethernet frames.")];

const TARGET: &Table = &Table {
    doc: "A target on raw Ethernet frames. For tests.",
    groups: &[&[
        key("name", Text("a name"), Required, "\"there\"", "What it is called."),
        key("port", Text("the name of a [[port]]"), Required, "\"p\"", "Where its frames come in."),
        key("vlan", Number(1, 4094), Means("no tag"), "100", "The VLAN of its frames."),
        key("luns", Tables(LUNS), Required, "", "Its logical units."),
    ]],
};

pub(crate) const ETHERTYPE: u16 = 0x88b5;

/// A group that all targets are in.
pub(crate) const ALL_TARGETS: [u8; 6] = [3, 0, 0, 0, 0x88, 0xb5];

/// What a frame is about; the number of a session follows.
pub(crate) const COMMAND: u8 = 1;
pub(crate) const LEAVE: u8 = 2;
/// Six bytes of an address follow that number.
pub(crate) const TAKE_ADDRESS: u8 = 3;
/// Set in an answer.
pub(crate) const ANSWER: u8 = 0x80;

/// Bytes of a command before its data: kind, session, tag, LUN, length of the CDB, CDB, room for data, length of data.
const COMMAND_HEADER: usize = 26;

/// A command as a frame has it, from the kind on.
pub(crate) fn command(session: u8, tag: u16, lun: u8, cdb: &[u8], data_out: &[u8], room: u16) -> Vec<u8> {
    let mut body = vec![0; COMMAND_HEADER];
    body[..2].copy_from_slice(&[COMMAND, session]);
    body[2..4].copy_from_slice(&tag.to_be_bytes());
    body[4..6].copy_from_slice(&[lun, u8::try_from(cdb.len()).expect("a short CDB")]);
    body[6..6 + cdb.len()].copy_from_slice(cdb);
    body[22..24].copy_from_slice(&room.to_be_bytes());
    body[24..26].copy_from_slice(&u16::try_from(data_out.len()).expect("one frame").to_be_bytes());
    body.extend_from_slice(data_out);
    body
}

/// The number of the session that a frame is for; the core is its remainder.
fn session(frame: &RawFrame) -> Option<u64> {
    match frame.bytes()[frame.body..] {
        [COMMAND | LEAVE, session, ..] => Some(session.into()),
        _ => None,
    }
}

/// A target as the configuration gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FrameTarget {
    name: String,
    port: String,
    vlan: Option<u16>,
    luns: ToyLuns,
}

impl ToyTargetOptions for FrameTarget {
    const KEY: &str = "toy_frame_target";

    fn read(s: &Section<'_>, parts: &KnownParts<'_, '_>) -> Option<Self> {
        let (name, port, luns) = (s.text("name"), parts.frame_port(s), super::read_luns(s, parts));
        let vlan = s.optional("vlan", |key| s.number(key));
        Some(Self { name: name?, port: port?, vlan: vlan?, luns: luns? })
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn luns(&self) -> &ToyLuns {
        &self.luns
    }

    fn frame_port(&self) -> Option<&str> {
        Some(&self.port)
    }

    fn share(&self, cores: usize, units: Vec<(Lun, UnitKey)>) -> Result<Arc<dyn FabricShare>, String> {
        let port = EthernetShare::new(&self.port, cores, 0, session).map_err(|e| e.to_string())?;
        Ok(Arc::new(FrameShare { port, vlan: self.vlan, units }))
    }
}

struct FrameShare {
    port: EthernetShare,
    vlan: Option<u16>,
    units: Vec<(Lun, UnitKey)>,
}

impl FabricShare for FrameShare {
    fn attach(&self, context: &CoreContext) -> Result<Box<dyn Fabric>, String> {
        let claim =
            |mac| FrameClaim { ethertype: ETHERTYPE, vlan: self.vlan, addresses: vec![mac, ALL_TARGETS] };
        let port = self.port.attach(context, |mac| vec![claim(mac)])?;
        let wire = FrameWire { port, arena: context.arena().clone() };
        Ok(Box::new(ToyFabric::new(context, wire, self.units.clone())))
    }
}

/// Whom a frame came from, with the tag if it had one; and the first bytes of an answer.
pub(crate) struct FrameBack {
    header: SmallVec<[u8; 128]>,
    start: [u8; 4],
}

struct FrameWire {
    port: EthernetClient,
    arena: Arena,
}

impl FrameWire {
    fn reply(
        &mut self,
        FrameBack { mut header, start: [kind, rest @ ..] }: FrameBack,
        status: u8,
        data: &[u8],
    ) {
        let len = u16::try_from(data.len()).expect("one frame").to_be_bytes();
        header.extend_from_slice(&[kind | ANSWER, rest[0], rest[1], rest[2], status, len[0], len[1]]);
        // Without memory it is lost.
        if let Some(payload) = Sg::copied(&self.arena, data) {
            self.port.send(TxFrame { header, payload, offload: None });
        }
    }

    fn hear(&mut self, frame: &RawFrame, messages: &mut Vec<ToyMessage<FrameBack>>) -> Option<()> {
        let bytes = frame.bytes();
        let (header, body) = bytes.split_at(frame.body);
        let mut back = SmallVec::from_slice(&header[6..12]);
        back.extend_from_slice(&self.port.mac());
        back.extend_from_slice(&header[12..]);
        let start = *body.first_chunk()?;
        let back = FrameBack { header: back, start };
        let number = u32::from_be_bytes([header[9], header[10], header[11], start[1]]);
        match start[0] {
            LEAVE => messages.push(ToyMessage::Leave(number)),
            TAKE_ADDRESS => {
                let mut claims = self.port.claims().to_vec();
                claims[0].addresses.push(*body.get(2..)?.first_chunk()?);
                let refused = self.port.claim(claims).is_err();
                self.reply(back, refused.into(), &[]);
            }
            COMMAND => {
                let fields = body.get(..COMMAND_HEADER)?;
                let half = |at: usize| u16::from_be_bytes([fields[at], fields[at + 1]]);
                let command = ToyCommand {
                    lun: Lun::from_index(fields[4].into()),
                    cdb: fields[6..22].get(..fields[5].into())?.to_vec(),
                    data_out: body[COMMAND_HEADER..].get(..half(24).into())?.to_vec(),
                    room: half(22).into(),
                    to: back,
                };
                messages.push(ToyMessage::Command(number, command));
            }
            _ => {}
        }
        Some(())
    }
}

impl ToyWire for FrameWire {
    type Back = FrameBack;

    const RELATIVE: u16 = 0x7100;

    fn poll(&mut self, messages: &mut Vec<ToyMessage<FrameBack>>) -> usize {
        let mut work = self.port.poll();
        while let Some(frame) = self.port.take_frame() {
            work += 1;
            _ = self.hear(&frame, messages);
        }
        work
    }

    fn answer(&mut self, to: FrameBack, (status, data): ToyAnswer) {
        self.reply(to, status as u8, &data);
    }

    fn commit(&mut self, now: Instant) {
        self.port.commit(now);
    }

    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        self.port.next_deadline(now)
    }

    fn wake_fds(&self, fds: &mut Vec<RawFd>) {
        self.port.wake_fds(fds);
    }

    fn may_sleep(&mut self) -> bool {
        self.port.may_sleep()
    }

    fn awake(&mut self) {
        self.port.awake();
    }

    fn count(&self, ports: &mut BTreeMap<String, Vec<Counted>>) {
        self.port.count(ports);
    }
}
