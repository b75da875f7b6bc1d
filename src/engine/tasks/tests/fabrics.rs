// SPDX-License-Identifier: GPL-2.0-or-later
//! One table of reservations over all fabrics: a disk that an iSCSI initiator reaches on one core, over a stream, and a
//! Fibre Channel initiator on the other, over memory regions.

use super::*;
use crate::devices::sbc::{Config, Disk};
use crate::scsi::PortName;
use crate::scsi::alua::{Group, GroupState};
use crate::scsi::primary::Identity;
use crate::scsi::reservations::{ReservationType, Reservations};
use crate::wire::Uuid;
use crate::wire::fc::WorldWideName;

const ISCSI: usize = 0;
const FC: usize = 1;
const UNIT: UnitKey = UnitKey(1);

/// By which nexus `who` is known.
const fn number(who: usize) -> NexusId {
    NexusId::of(40 + who as u64)
}

fn nexus(who: usize) -> Nexus {
    let fc = |name: u64| PortName::Fc(WorldWideName::new(name.to_be_bytes()));
    let initiator = match who {
        ISCSI => PortName::iscsi_initiator("iqn.2026-11.test:i", [0x80, 0, 0, 0, 0, 1]),
        _ => fc(0x2100_0024_ff12_3456),
    };
    let port = match who {
        ISCSI => TargetPort::iscsi(1, "iqn.2026-11.test:t", 1),
        _ => TargetPort {
            relative: 2,
            device: "naa.2000020000000001".into(),
            name: fc(0x2100_0200_0000_0001),
            group: 2,
        },
    };
    Nexus { initiator, port: Arc::new(port) }
}

fn ports() -> [Arc<TargetPort>; 2] {
    [ISCSI, FC].map(|who| nexus(who).port)
}

/// How a command ended: status, sense key and code, and data.
type FabricEnded = (Status, Option<(u8, u16)>, Vec<u8>);

const CONFLICT: FabricEnded = (Status::ReservationConflict, None, Vec::new());

fn good(data: &[u8]) -> FabricEnded {
    (Status::Good, None, data.to_vec())
}

fn check(key: u8, code: u16) -> FabricEnded {
    (Status::CheckCondition, Some((key, code)), Vec::new())
}

/// The daemon between one start and the next.
struct TwoFabrics {
    cores: Vec<(TaskManager, Rc<RefCell<Kept>>)>,
    transports: [Vec<(NexusKey, Option<ToyTransport>)>; 2],
}

impl TwoFabrics {
    /// Starts with the reservations of a record, if there is one.
    fn start(record: Option<&Record>) -> Self {
        let table = record.map(|record| Reservations::from_record(&record.bytes, &ports()).unwrap());
        let group = |port: Arc<TargetPort>| Group {
            id: port.group,
            state: GroupState::ActiveOptimized,
            preferred: false,
            ports: vec![port],
            status: 0,
        };
        let groups = ports().map(group).to_vec();
        let shared = Arc::new(SharedState::new(UnitState::new(table.unwrap_or_default(), groups)));
        let identity = Identity::new("PTGT", "DISK", "1", None, Uuid::of_name("fabrics")).unwrap();
        let disk = Arc::new(Disk::new(Config { thin: false, ..Config::new(identity) }));
        let bytes = Rc::new(RefCell::new(StoreState { bytes: vec![0; UNIT_BYTES], ..StoreState::default() }));
        let arena = Arena::new(32 << 20, false).unwrap();
        let absent = || Box::new(Rc::<RefCell<ToyDisk>>::default());
        let mut cores: Vec<_> = (0..2)
            .map(|core| {
                let mut manager = TaskManager::new(&CoreContext::new(core, 2, arena.clone()), absent());
                let store = HoldingStore { arena: arena.clone(), shared: bytes.clone() };
                manager.add_unit(UNIT, Box::new(disk.server()), Some(Box::new(store)));
                manager.share(UNIT, shared.clone());
                let kept = Rc::<RefCell<Kept>>::default();
                manager.persist_with(Box::new(kept.clone()), &[(UNIT, RecordSlot(0))]);
                (manager, kept)
            })
            .collect();
        let transports = [(ISCSI, TransportKind::Stream), (FC, TransportKind::Region)].map(|(who, kind)| {
            let key = cores[who].0.add_nexus(number(who), nexus(who), &[(DISK, UNIT)]);
            let (wire, slots) = (Wire::default(), HashMap::new());
            vec![(key, Some(ToyTransport { kind, arena: arena.clone(), wire, slots }))]
        });
        let mut daemon = Self { cores, transports };
        for who in [ISCSI, FC] {
            assert_eq!(daemon.ready(who), check(6, asc::POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED));
        }
        daemon
    }

    /// A command, until it has ended.
    fn ask(&mut self, who: usize, cdb: &[u8], out: &[u8]) -> FabricEnded {
        let expected = Expected { data_in: 512, data_out: out.len() as u32 };
        let cdb = Cdb::new(cdb).unwrap();
        let command =
            Command { nexus: number(who), lun: DISK, cdb, attribute: TaskAttribute::Simple, expected };
        let request_tag = RequestTag(1);
        let wire = &mut self.transports[who][0].1.as_mut().unwrap().wire;
        *wire = Wire::default();
        wire.offered.insert(request_tag, out.to_vec());
        wire.requests.push_back(Request::Command { request_tag, command });
        for _ in 0..20 {
            for core in [ISCSI, FC] {
                let (manager, _) = &mut self.cores[core];
                let transports = &mut self.transports[core];
                let (key, transport) = &mut transports[0];
                manager.serve(NOW, *key, transport.as_mut().unwrap());
                manager.poll_stores(NOW, &mut Lookup(transports), &mut |_| {});
                while let Some(notice) = self.cores[core].0.poll_notice() {
                    let (Notice::ToPeers(message) | Notice::ToPeer(_, message)) = notice else {
                        panic!("{notice:?}");
                    };
                    self.cores[1 - core].0.hear(message);
                }
            }
        }
        let wire = &mut self.transports[who][0].1.as_mut().unwrap().wire;
        let [(_, status, ..)] = wire.responses[..] else { panic!("{:?}", wire.responses) };
        let sense = Sense::key_and_code(&wire.sense[&request_tag]);
        (status, sense, wire.seen.remove(&request_tag).unwrap_or_default())
    }

    /// PERSISTENT RESERVE OUT with APTPL where there is a place for it.
    fn out(&mut self, who: usize, action: u8, keys: [u64; 2], flags: u8, ports: &[u8]) -> FabricEnded {
        let kind = ReservationType::WriteExclusive as u8;
        let mut list = keys.map(u64::to_be_bytes).concat();
        list.extend([0, 0, 0, 0, 1 | flags, 0, 0, 0]);
        if flags & SPEC_I_PT != 0 {
            list.extend((ports.len() as u32).to_be_bytes());
        }
        list.extend(ports);
        self.ask(who, &[0x5f, action, kind, 0, 0, 0, 0, 0, list.len() as u8, 0], &list)
    }

    /// REGISTER AND MOVE to a target port, with that initiator port.
    fn move_to(&mut self, who: usize, keys: [u64; 2], relative: u8, initiator: &PortName) -> FabricEnded {
        let mut list = keys.map(u64::to_be_bytes).concat();
        let id = initiator.transport_id();
        list.extend([0, 1, 0, relative, 0, 0, 0, id.len() as u8]);
        list.extend(id.as_bytes());
        self.ask(who, &[0x5f, 7, 0, 0, 0, 0, 0, 0, list.len() as u8, 0], &list)
    }

    /// TEST UNIT READY.
    fn ready(&mut self, who: usize) -> FabricEnded {
        self.ask(who, &[0; 6], &[])
    }

    fn write(&mut self, who: usize) -> FabricEnded {
        self.ask(who, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[who as u8; BLOCK])
    }

    fn full_status(&mut self, who: usize) -> Vec<u8> {
        let (status, _, data) = self.ask(who, &[0x5e, 3, 0, 0, 0, 0, 0, 2, 0, 0], &[]);
        assert_eq!(status, Status::Good);
        data[8..].to_vec()
    }

    /// The record that was kept last.
    fn record(&self) -> Record {
        let kept = |core: &(TaskManager, Rc<RefCell<Kept>>)| core.1.borrow().under_way.clone();
        let records = self.cores.iter().flat_map(kept).map(|(_, _, record)| record);
        records.max_by_key(|record| record.generation).expect("something was kept")
    }
}

const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const CLEAR: u8 = 3;
const PREEMPT: u8 = 4;
const SPEC_I_PT: u8 = 8;
const ALL_TG_PT: u8 = 4;

/// A full status descriptor (SPC-5 6.16.5) of a nexus or, without a port, of an initiator port at all target ports.
fn descriptor(key: u64, holder: bool, initiator: &PortName, port: Option<&TargetPort>) -> Vec<u8> {
    let flags = if port.is_none() { 2 } else { 0 } | u8::from(holder);
    let kind = if holder { ReservationType::WriteExclusive as u8 } else { 0 };
    let mut data = [&key.to_be_bytes()[..], &[0, 0, 0, 0, flags, kind, 0, 0, 0, 0]].concat();
    data.extend(port.map_or(0, |port| port.relative).to_be_bytes());
    let id = initiator.transport_id();
    data.extend((id.len() as u32).to_be_bytes());
    data.extend(id.as_bytes());
    data
}

fn of(who: usize, key: u64, holder: bool) -> Vec<u8> {
    let Nexus { initiator, port } = nexus(who);
    descriptor(key, holder, &initiator, Some(&port))
}

#[test]
fn initiators_of_two_fabrics_reserve_preempt_and_clear_in_one_table() {
    let mut daemon = TwoFabrics::start(None);
    assert_eq!(daemon.out(ISCSI, REGISTER, [0, 0xa], 0, &[]), good(&[]));
    assert_eq!(daemon.out(FC, REGISTER, [0, 0xf], 0, &[]), good(&[]));
    assert_eq!(daemon.out(ISCSI, RESERVE, [0xa, 0], 0, &[]), good(&[]));
    let table = [of(ISCSI, 0xa, true), of(FC, 0xf, false)].concat();
    for who in [ISCSI, FC] {
        assert_eq!(daemon.full_status(who), table);
    }
    assert_eq!((daemon.write(ISCSI), daemon.write(FC)), (good(&[]), CONFLICT));

    assert_eq!(daemon.out(FC, PREEMPT, [0xf, 0xa], 0, &[]), good(&[]));
    assert_eq!(daemon.ready(ISCSI), check(6, asc::REGISTRATIONS_PREEMPTED));
    assert_eq!((daemon.write(ISCSI), daemon.write(FC)), (CONFLICT, good(&[])));
    assert_eq!(daemon.full_status(ISCSI), of(FC, 0xf, true));

    // And back, over a restart with another registration.
    assert_eq!(daemon.out(ISCSI, REGISTER, [0, 0xb], 0, &[]), good(&[]));
    let mut daemon = TwoFabrics::start(Some(&daemon.record()));
    let table = [of(FC, 0xf, true), of(ISCSI, 0xb, false)].concat();
    assert_eq!(daemon.full_status(FC), table);
    assert_eq!((daemon.write(ISCSI), daemon.write(FC)), (CONFLICT, good(&[])));
    assert_eq!(daemon.out(ISCSI, PREEMPT, [0xb, 0xf], 0, &[]), good(&[]));
    assert_eq!(daemon.ready(FC), check(6, asc::REGISTRATIONS_PREEMPTED));
    assert_eq!((daemon.write(ISCSI), daemon.write(FC)), (good(&[]), CONFLICT));

    assert_eq!(daemon.out(FC, REGISTER, [0, 0xf], 0, &[]), good(&[]));
    assert_eq!(daemon.out(ISCSI, CLEAR, [0xb, 0], 0, &[]), good(&[]));
    assert_eq!(daemon.ready(FC), check(6, asc::RESERVATIONS_PREEMPTED));
    assert_eq!((daemon.write(ISCSI), daemon.write(FC)), (good(&[]), good(&[])));
    assert!(daemon.full_status(FC).is_empty());
    assert!(TwoFabrics::start(Some(&daemon.record())).full_status(FC).is_empty());
}

#[test]
fn an_initiator_registers_ports_of_all_protocols_and_hands_over_to_one_that_can_be_there() {
    let mut daemon = TwoFabrics::start(None);
    let others =
        [nexus(ISCSI).initiator, PortName::Srp([0x5a; 16]), PortName::Sas([0x50, 0, 0xc5, 0, 1, 2, 3, 4])];
    let list: Vec<u8> = others.iter().flat_map(|name| name.transport_id().as_bytes().to_vec()).collect();
    // All or none: the last is of a protocol that nobody knows.
    let unknown = [&list[..], &[0x0f; 24]].concat();
    let refused = check(5, asc::INVALID_FIELD_IN_PARAMETER_LIST);
    assert_eq!(daemon.out(FC, REGISTER, [0, 0xf], SPEC_I_PT | ALL_TG_PT, &unknown), refused);
    assert!(daemon.full_status(FC).is_empty());

    assert_eq!(daemon.out(FC, REGISTER, [0, 0xf], SPEC_I_PT | ALL_TG_PT, &list), good(&[]));
    let names = [&[nexus(FC).initiator][..], &others].concat();
    let everywhere = |name| descriptor(0xf, false, name, None);
    let table: Vec<u8> = names.iter().flat_map(everywhere).collect();
    assert_eq!(daemon.full_status(ISCSI), table);
    let mut daemon = TwoFabrics::start(Some(&daemon.record()));
    assert_eq!(daemon.full_status(ISCSI), table);

    assert_eq!(daemon.out(FC, RESERVE, [0xf, 0], 0, &[]), good(&[]));
    assert_eq!((daemon.write(ISCSI), daemon.write(FC)), (CONFLICT, good(&[])));
    // Each at the target port of the other.
    for (who, relative) in [(ISCSI, 2), (FC, 1)] {
        let initiator = nexus(who).initiator;
        assert_eq!(daemon.move_to(FC, [0xf, 0xc], relative, &initiator), refused, "{initiator}");
    }
    assert_eq!(daemon.move_to(FC, [0xf, 0xc], 1, &nexus(ISCSI).initiator), good(&[]));
    assert_eq!((daemon.write(ISCSI), daemon.write(FC)), (good(&[]), CONFLICT));
}

/// SPC-5 7.7.6 and 7.7.15: the port by which it was asked, and all by which the disk is reached.
#[test]
fn each_initiator_is_told_the_names_of_its_port_and_of_all() {
    let mut daemon = TwoFabrics::start(None);
    let mut page = |who, page| {
        let (status, _, data) = daemon.ask(who, &[0x12, 1, page, 2, 0, 0], &[]);
        assert_eq!((status, usize::from(data[3])), (Status::Good, data.len() - 4));
        data
    };
    let iscsi = [&[0x53, 0x98, 0, 28], &b"iqn.2026-11.test:t,t,0x0001\0"[..]].concat();
    let fc = [0x01, 0x93, 0, 8, 0x21, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x01];
    let own = [
        [&[0x51, 0x94, 0, 4, 0, 0, 0, 1, 0x51, 0x95, 0, 4, 0, 0, 0, 1], &iscsi[..]].concat(),
        [&[0x01, 0x94, 0, 4, 0, 0, 0, 2, 0x01, 0x95, 0, 4, 0, 0, 0, 2], &fc[..]].concat(),
    ];
    let devices = [
        [&[0x53, 0xa8, 0, 20], &b"iqn.2026-11.test:t\0\0"[..]].concat(),
        [&[0x03, 0xa8, 0, 24], &b"naa.2000020000000001\0\0\0\0"[..]].concat(),
    ];
    let port = |relative, name: &[u8]| {
        let mut head = [0; 12];
        (head[3], head[11]) = (relative, name.len() as u8);
        [&head[..], name].concat()
    };
    let all = [&[0, 0x88, 0, 32 + 12 + 12 + 12], &port(1, &iscsi)[..], &port(2, &fc)].concat();
    for who in [ISCSI, FC] {
        assert!(page(who, 0x83).ends_with(&[&own[who][..], &devices[who]].concat()));
        assert_eq!(page(who, 0x88), all);
    }
}
