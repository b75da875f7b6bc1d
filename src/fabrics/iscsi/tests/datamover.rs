// SPDX-License-Identifier: GPL-2.0-or-later
//! The same session over two datamovers: a byte stream, and one that moves data between memory regions. What a command
//! does and how it ends is the same; how its bytes move is not.

use std::collections::HashMap;

use super::*;
use crate::fabrics::iscsi::initiator::Transfer;
use crate::memory::{BufferSlots, Region, RegionTable, Registrar};
use crate::wire::iscsi::{ScsiResponseHeader, pairs};

/// What initiators of RDMA offer.
const OFFERS: [(&str, &str); 8] = [
    ("HeaderDigest", "None"),
    ("DataDigest", "None"),
    ("InitialR2T", "No"),
    ("ImmediateData", "Yes"),
    ("RDMAExtensions", "Yes"),
    ("InitiatorRecvDataSegmentLength", "262144"),
    ("TargetRecvDataSegmentLength", "8192"),
    ("MaxOutstandingUnexpectedPDUs", "0"),
];

/// A device that is told of regions, and names them by keys of its own.
struct Keys(u32);

impl Registrar for Keys {
    type Handle = u32;

    fn register(&mut self, _: &Region) -> std::io::Result<u32> {
        self.0 += 1000;
        Ok(self.0)
    }

    fn unregister(&mut self, _: &Region, _: u32) {}
}

/// A datamover that moves data by region. It knows the initiator's buffers by their tags, and its own memory by keys.
struct Mover {
    remote: HashMap<u32, Vec<u8>>,
    table: RegionTable<Keys>,
    regions: HashMap<u32, Region>,
    slots: BufferSlots,
    /// What has been moved, in order: keys of the memory, and lengths.
    put: Vec<(u32, usize)>,
    got: Vec<(u32, usize)>,
    /// Gets that have not ended, as long as this is not `None`.
    held: Option<Vec<Movement>>,
}

/// Where the initiator's buffers begin.
const BASE: u64 = 0x7000_0000_0000;
const WRITES: u32 = 77;
const READS: u32 = 88;

impl Mover {
    fn new(world: &World) -> Self {
        let slots = BufferSlots::new(32, 256 << 10, false).unwrap();
        let mut mover = Self {
            remote: HashMap::new(),
            table: RegionTable::new(Keys(0)),
            regions: HashMap::new(),
            slots,
            put: Vec::new(),
            got: Vec::new(),
            held: None,
        };
        mover.know(&world.arena.region().clone());
        mover.know(&mover.slots.region().clone());
        mover
    }

    fn know(&mut self, region: &Region) -> u32 {
        self.table.add(region).unwrap();
        let key = *self.table.handle(region.id()).unwrap();
        self.regions.insert(key, region.clone());
        key
    }

    fn range(&self, buffer: TaggedBuffer, len: usize) -> std::ops::Range<usize> {
        let at = usize::try_from(buffer.base - BASE).unwrap();
        assert!(at + len <= self.remote[&buffer.tag].len(), "beyond what was advertised");
        at..at + len
    }

    fn end_get(&mut self, world: &mut World, movement: Movement) {
        let Movement::GetData { id, from, len } = movement else { panic!() };
        let mut slot = self.slots.take(len as usize).unwrap();
        let range = self.range(from, slot.len());
        slot.bytes_mut().copy_from_slice(&self.remote[&from.tag][range]);
        let key = *self.table.handle(slot.in_region().unwrap().0).unwrap();
        self.got.push((key, slot.len()));
        world.session.data_got(world.key, id, slot.freeze().into());
    }

    /// Does what it is told until there is no more; returns the control PDUs.
    fn run(&mut self, world: &mut World) -> Vec<Packet> {
        let mut packets = Vec::new();
        loop {
            let mut busy = world.work();
            let (mut put, mut gets) = (Vec::new(), Vec::new());
            while let Some(movement) = world.session.poll_movement(world.key) {
                busy = true;
                match movement {
                    Movement::SendControl(pdu) => {
                        let mut bytes = pdu.to_vec();
                        // The initiator of the tests knows streams.
                        bytes.resize(bytes.len().next_multiple_of(4), 0);
                        packets.extend(world.initiator.take(&bytes));
                    }
                    Movement::PutData { id, to, data } => {
                        let mut at = self.range(to, data.len()).start;
                        for seg in data.segs() {
                            // From where it lies, by key and offset.
                            let (region, offset) = seg.in_region().expect("memory that is registered");
                            let key = *self.table.handle(region).unwrap();
                            let buffer = self.remote.get_mut(&to.tag).unwrap();
                            self.regions[&key].copy_to(offset, &mut buffer[at..at + seg.len()]);
                            self.put.push((key, seg.len()));
                            at += seg.len();
                        }
                        put.push(id);
                    }
                    get @ Movement::GetData { .. } => gets.push(get),
                }
            }
            put.into_iter().for_each(|id| world.session.data_put(world.key, id));
            match &mut self.held {
                Some(held) => held.extend(gets),
                None => gets.into_iter().for_each(|get| self.end_get(world, get)),
            }
            if !busy {
                return packets;
            }
        }
    }

    fn exchange(&mut self, world: &mut World, packet: &Packet) -> Vec<Packet> {
        self.say(world, packet);
        self.run(world)
    }

    fn say(&mut self, world: &mut World, packet: &Packet) {
        let bytes = packet.encode(Digests::default());
        let advertised = |tag| self.remote.contains_key(&tag).then_some(TaggedBuffer { tag, base: BASE });
        let immediate = packet.data.len() as u64;
        let write = advertised(WRITES).map(|buffer| TaggedBuffer { base: BASE + immediate, ..buffer });
        let message = ControlMessage {
            bhs: Bhs::from(*bytes.first_chunk().unwrap()),
            ahs: packet.ahs.iter().copied().collect(),
            data: Sg::copied(&world.arena, &packet.data).unwrap(),
            write,
            read: advertised(READS),
        };
        world.session.control_notify(world.key, world.now, message, &world.targets);
    }

    fn end(mut self, world: World) {
        self.table.give_up();
        assert_eq!(self.slots.out(), 0);
        drop(self.regions);
        world.end();
    }
}

/// A session over tags in the login phase.
fn tagged(parameters: Parameters) -> (World, Mover) {
    let mut world = World::new(parameters);
    let (session, key) =
        Session::tagged(world.targets.parameters.clone(), world.arena.clone(), origin(40_000), world.now);
    (world.session, world.key) = (session, key);
    let mover = Mover::new(&world);
    (world, mover)
}

fn logged_in() -> (World, Mover) {
    let (mut world, mut mover) = tagged(Parameters::default());
    let login = world.initiator.login(1, Some(3), &[&NAMES[..], &OFFERS].concat());
    let answers = mover.exchange(&mut world, &login);
    assert_eq!((answers.len(), answers[0].bhs.half(36)), (1, 0), "{:?}", world.events);
    (world, mover)
}

/// What the target has answered to the keys of a login.
fn answered(packet: &Packet) -> HashMap<String, String> {
    pairs(&packet.data).map(Result::unwrap).map(|pair| (pair.key.to_owned(), pair.value.to_owned())).collect()
}

#[test]
fn a_login_is_by_the_datamovers_rules() {
    let (mut world, mut mover) = tagged(Parameters::default());
    let login =
        world.initiator.login(1, Some(3), &[&NAMES[..], &OFFERS, &[("MaxConnections", "4")]].concat());
    let answers = mover.exchange(&mut world, &login);
    let keys = answered(&answers[0]);
    for (key, value) in [
        ("HeaderDigest", Some("None")),
        ("DataDigest", Some("None")),
        ("InitialR2T", Some("Yes")),
        ("ImmediateData", Some("Yes")),
        ("RDMAExtensions", Some("Yes")),
        ("InitiatorRecvDataSegmentLength", Some("262144")),
        ("TargetRecvDataSegmentLength", Some("8192")),
        ("MaxConnections", Some("1")),
        // Ours is declared, the initiator's not answered.
        ("MaxOutstandingUnexpectedPDUs", Some("16")),
        ("MaxRecvDataSegmentLength", None),
    ] {
        assert_eq!(keys.get(key).map(String::as_str), value, "{key}");
    }
    let negotiated = world.connection().negotiated();
    assert!(negotiated.rdma_extensions && negotiated.initial_r2t);
    assert_eq!(negotiated.max_recv_data_segment_length, 8192);
    assert_eq!((negotiated.max_xmit_data_segment_length, negotiated.unexpected_max), (262_144, u32::MAX));
    mover.end(world);
    // Values of the keys, and what is refused.
    for (key, value, answer, max) in [
        ("InitiatorRecvDataSegmentLength", "511", Some("Reject"), 0),
        ("TargetRecvDataSegmentLength", "16777215", Some("262144"), 262_144),
        ("TargetRecvDataSegmentLength", "0", Some("Reject"), 8192),
        ("MaxOutstandingUnexpectedPDUs", "1", Some("Reject"), 8192),
        ("MaxOutstandingUnexpectedPDUs", "2", None, 8192),
        ("MaxRecvDataSegmentLength", "65536", None, 8192),
        ("MaxAHSLength", "0", None, 8192),
        ("TaggedBufferForSolicitedDataOnly", "maybe", Some("Reject"), 8192),
        ("iSERHelloRequired", "No", None, 8192),
        ("HeaderDigest", "CRC32C,None", Some("None"), 8192),
        ("HeaderDigest", "CRC32C", Some("Reject"), 8192),
    ] {
        let (mut world, mut mover) = tagged(Parameters::default());
        let offers = [&NAMES[..], &[("RDMAExtensions", "Yes"), (key, value)]].concat();
        let login = world.initiator.login(1, Some(3), &offers);
        let answers = mover.exchange(&mut world, &login);
        let keys = answered(&answers[0]);
        let said = keys.get(key).map(String::as_str).filter(|said| *said != "16");
        assert_eq!(said, answer, "{key}={value}");
        if max > 0 {
            let got = world.connection().negotiated().max_recv_data_segment_length;
            assert_eq!(got, max, "{key}={value}");
        }
        mover.end(world);
    }
}

#[test]
fn a_normal_session_by_tags_needs_the_extensions() {
    for offers in [&[][..], &[("RDMAExtensions", "No")]] {
        let (mut world, mut mover) = tagged(Parameters::default());
        let login = world.initiator.login(1, Some(3), &[&NAMES[..], offers].concat());
        let answers = mover.exchange(&mut world, &login);
        assert_eq!(answers[0].bhs.half(36), LoginStatus::InitiatorError as u16);
        mover.end(world);
    }
    // A discovery session has none of them, and the length of the stream.
    let (mut world, mut mover) = tagged(Parameters::default());
    let discovery = [("InitiatorName", NAMES[0].1), ("SessionType", "Discovery"), ("RDMAExtensions", "Yes")];
    let login = world.initiator.login(1, Some(3), &discovery);
    let answers = mover.exchange(&mut world, &login);
    let keys = answered(&answers[0]);
    assert_eq!((answers[0].bhs.half(36), &*keys["RDMAExtensions"]), (0, "Irrelevant"));
    assert_eq!(keys["MaxRecvDataSegmentLength"], "262144");
    mover.end(world);
    // Another connection for a session would be bound to another queue.
    let (mut world, mut mover) = tagged(Parameters::default());
    world.initiator.tsih = 7;
    let login = world.initiator.login(1, Some(3), &[&NAMES[..], &OFFERS].concat());
    let answers = mover.exchange(&mut world, &login);
    assert_eq!(answers[0].bhs.half(36), LoginStatus::TooManyConnections as u16);
    mover.end(world);
}

fn cdb10(opcode: u8, lba: u32, blocks: u16) -> Vec<u8> {
    let mut cdb = vec![0; 10];
    cdb[0] = opcode;
    cdb[2..6].copy_from_slice(&lba.to_be_bytes());
    cdb[7..9].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

/// How a command has ended: status, residuals as the header has them, sense data, and what has been read.
type Outcome = (u8, [u32; 2], u8, Vec<u8>, Vec<u8>);

/// A command: its CDB, the bytes it writes, of which so many come with it, and the room for what it reads.
type ScriptStep = (Vec<u8>, Vec<u8>, usize, Option<u32>);

fn script() -> Vec<ScriptStep> {
    let bytes = |len: usize| pattern_of(17, len);
    vec![
        (cdb10(0x28, 2, 9), vec![], 0, Some(9 * 512)),
        (cdb10(0x28, 0, 1200), vec![], 0, Some(1200 * 512)),
        (cdb10(0x28, 2, 9), vec![], 0, Some(1000)),
        (cdb10(0x28, 2, 1), vec![], 0, Some(4000)),
        (vendor(READ_IN_PARTS, 300_000, 70_000).to_vec(), vec![], 0, Some(300_000)),
        (cdb10(0x2a, 0, 8), bytes(4096), 0, None),
        (cdb10(0x2a, 0, 8), bytes(4096), 4096, None),
        (cdb10(0x2a, 0, 40), bytes(20_480), 1536, None),
        (vendor(WRITE_IN_PARTS, 200_000, 64_000).to_vec(), bytes(200_000), 8192, None),
        (vendor(WRITE_IN_PARTS, 100, 100).to_vec(), bytes(4096), 0, None),
        (vendor(ECHO, 0, 0).to_vec(), bytes(5001), 0, Some(6000)),
        (vendor(BOTH, 3000, 2000).to_vec(), bytes(3000), 512, Some(2000)),
        (vendor(FAIL, 0, 0).to_vec(), vec![], 0, Some(100)),
        (vendor(READ_AND_FAIL, 30_000, 9000).to_vec(), vec![], 0, Some(30_000)),
        (vec![0; 6], vec![], 0, None),
    ]
}

fn command(world: &mut World, step: &ScriptStep) -> Packet {
    let (cdb, bytes, immediate, reads) = step;
    let writes = (!bytes.is_empty()).then(|| u32::try_from(bytes.len()).unwrap());
    let packet = world.initiator.command(0, cdb, Transfer { reads: *reads, writes });
    if *immediate > 0 { packet.data(&bytes[..*immediate]) } else { packet }
}

fn response(packet: &Packet) -> (u8, [u32; 2], u8, Vec<u8>) {
    assert_eq!(packet.opcode(), Opcode::SCSI_RESPONSE);
    let header: ScsiResponseHeader = packet.header().unwrap();
    let residuals = [header.residual_count, header.bidi_residual_count];
    (header.status, residuals, packet.bhs.flags(), packet.data.clone())
}

/// Over the stream, where a status may come with the data.
fn over_the_stream() -> (Vec<Outcome>, Vec<Vec<u8>>) {
    let mut world = World::logged_in(Parameters::default(), &[("ImmediateData", "Yes")]);
    let mut outcomes = Vec::new();
    for step in script() {
        let packet = command(&mut world, &step);
        let (mut read, mut answers) = (Vec::new(), world.exchange(&[&packet]));
        loop {
            let mut ended = None;
            for answer in std::mem::take(&mut answers) {
                match answer.opcode() {
                    Opcode::R2T => {
                        let sent = world.initiator.answer_r2t(&packet, &answer, &step.1, 8192);
                        answers.extend(world.exchange(&sent));
                    }
                    Opcode::DATA_IN => {
                        read.extend(&answer.data);
                        if answer.bhs.flags() & flag::STATUS != 0 {
                            let flags = FINAL | answer.bhs.flags() & (flag::OVERFLOW | flag::UNDERFLOW);
                            ended = Some((answer.bhs.bytes()[3], [answer.bhs.word(44), 0], flags, vec![]));
                        }
                    }
                    _ => ended = Some(response(&answer)),
                }
            }
            if let Some((status, residuals, flags, sense)) = ended {
                break outcomes.push((status, residuals, flags, sense, read));
            }
            assert!(!answers.is_empty(), "{step:?}");
        }
    }
    let written = std::mem::take(&mut world.toy.written);
    world.end();
    (outcomes, written)
}

/// By regions, where nothing but the response is a PDU.
fn by_regions() -> (Vec<Outcome>, Vec<Vec<u8>>) {
    let (mut world, mut mover) = logged_in();
    let mut outcomes = Vec::new();
    for step in script() {
        let (_, bytes, _, reads) = &step;
        mover.remote.clear();
        if !bytes.is_empty() {
            mover.remote.insert(WRITES, bytes.clone());
        }
        if let Some(room) = reads {
            mover.remote.insert(READS, vec![0xee; *room as usize]);
        }
        let packet = command(&mut world, &step);
        (mover.put, mover.got) = Default::default();
        let answers = mover.exchange(&mut world, &packet);
        assert_eq!(answers.len(), 1, "{step:?}");
        assert_eq!(answers[0].bhs.word(36), 0, "ExpDataSN: there is no Data-In PDU, and no R2T");
        let (status, residuals, flags, sense) = response(&answers[0]);
        let len: usize = mover.put.iter().map(|(_, len)| len).sum();
        let mut read = mover.remote.remove(&READS).unwrap_or_default();
        assert!(read[len..].iter().all(|&byte| byte == 0xee), "nothing beyond what was put");
        read.truncate(len);
        outcomes.push((status, residuals, flags, sense, read));
    }
    let written = std::mem::take(&mut world.toy.written);
    mover.end(world);
    (outcomes, written)
}

#[test]
fn commands_end_alike_over_both_datamovers() {
    let (stream, regions) = (over_the_stream(), by_regions());
    for ((one, other), step) in stream.0.iter().zip(&regions.0).zip(script()) {
        assert!(
            one == other,
            "{:x?}: {:?} and {:?}",
            step.0,
            (one.0, one.1, one.2),
            (other.0, other.1, other.2)
        );
    }
    assert_eq!(stream.0.len(), regions.0.len());
    assert!(stream.1 == regions.1, "what was written");
}

/// No byte is copied above the datamover: what is put lies in the store's region, and what is got reaches the task
/// where it landed.
#[test]
fn data_stays_where_it_lies() {
    let (mut world, mut mover) = logged_in();
    let lent = Region::anonymous(1 << 20, false).unwrap();
    let store = mover.know(&lent);
    world.toy.lent = Some(Lease::new(lent));
    mover.remote.insert(READS, vec![0; 300_000]);
    let step = (vendor(READ_IN_PARTS, 300_000, 100_000).to_vec(), vec![], 0, Some(300_000));
    let packet = command(&mut world, &step);
    mover.exchange(&mut world, &packet);
    assert_eq!(mover.put, [(store, 100_000); 3], "as long pieces as the task has them");
    // The task is the test itself.
    mover.remote.insert(WRITES, pattern_of(0, 20_480));
    let packet = command(&mut world, &(cdb10(0x2a, 0, 40), pattern_of(0, 20_480), 512, None));
    mover.say(&mut world, &packet);
    let Some(Request::Command { request_tag, .. }) = world.session.poll_request() else { panic!() };
    world.session.receive_data_out(request_tag, 20_480);
    let Some(get @ Movement::GetData { from, len, .. }) = world.session.poll_movement(world.key) else {
        panic!()
    };
    assert_eq!(
        (from, len),
        (TaggedBuffer { tag: WRITES, base: BASE + 512 }, 20_480 - 512),
        "one, behind the immediate data"
    );
    mover.end_get(&mut world, get);
    let Some(Request::DataOut { data, .. }) = world.session.poll_request() else { panic!() };
    let regions: Vec<_> = data.segs().iter().map(|seg| seg.in_region().unwrap().0).collect();
    assert_eq!(regions, [world.arena.region().id(), mover.slots.region().id()]);
    assert_eq!(data.to_vec(), pattern_of(0, 20_480));
    drop(data);
    world.session.terminate(request_tag, None);
    mover.end(world);
}

/// The initiator may use its buffers for something else when it hears that a task is gone.
#[test]
fn the_end_of_a_task_is_told_when_nothing_of_it_is_moved_any_more() {
    let (mut world, mut mover) = logged_in();
    mover.remote.insert(WRITES, pattern_of(0, 4096));
    mover.held = Some(Vec::new());
    let write = command(&mut world, &(cdb10(0x2a, 0, 8), pattern_of(0, 4096), 0, None));
    assert!(mover.exchange(&mut world, &write).is_empty());
    let abort = world.initiator.abort_task(&write);
    assert!(mover.exchange(&mut world, &abort).is_empty(), "a get is under way");
    assert_eq!(world.toy.running(), 0, "the task has ended");
    let [get] = &mut std::mem::take(mover.held.as_mut().unwrap())[..] else { panic!() };
    let get = std::mem::replace(get, Movement::SendControl(Sg::new()));
    mover.end_get(&mut world, get);
    let answers = mover.run(&mut world);
    assert_eq!(opcodes(&answers), [Opcode::TASK_MANAGEMENT_RESPONSE]);
    assert!(world.toy.written.is_empty());
    mover.end(world);
}

#[test]
fn what_tags_leave_no_place_for_ends_the_connection() {
    type Breach = fn(&mut World, &mut Mover);
    let cases: [(&str, Breach); 5] = [
        ("a Data-Out PDU where data is moved by tags", |world, mover| {
            let packet = Packet::raw(Opcode::DATA_OUT, FINAL).word(20, u32::MAX);
            mover.exchange(world, &packet);
        }),
        ("a command that writes without a buffer", |world, mover| {
            let packet = command(world, &(cdb10(0x2a, 0, 8), pattern_of(0, 4096), 0, None));
            mover.exchange(world, &packet);
        }),
        ("a command that reads without a buffer", |world, mover| {
            let packet = command(world, &(cdb10(0x28, 0, 8), vec![], 0, Some(4096)));
            mover.exchange(world, &packet);
        }),
        ("a data segment of a wrong length", |world, mover| {
            let packet = world.initiator.nop_out(&[7; 8193]);
            mover.exchange(world, &packet);
        }),
        ("more unexpected PDUs than were agreed on", |world, mover| {
            for _ in 0..100 {
                let ping = world.initiator.nop_out(&[]);
                let ping = world.initiator.immediate(ping);
                mover.say(world, &ping);
            }
            mover.run(world);
        }),
    ];
    for (what, breach) in cases {
        let (mut world, mut mover) = logged_in();
        breach(&mut world, &mut mover);
        assert_eq!(world.violation(), what);
        mover.end(world);
    }
}
