// SPDX-License-Identifier: GPL-2.0-or-later
//! What is lent and not yet sent is not written by a task that the task set puts behind.

use super::*;
use crate::devices::sbc::{self, Disk};
use crate::scsi::primary::{Identity, MissingLun};
use crate::scsi::{Residual, Response};
use crate::stores;
use crate::wire::Uuid;

const LUN: Lun = Lun::ZERO;

/// A transport that keeps what it is to send.
#[derive(Default)]
struct Wire {
    requests: VecDeque<Request>,
    unsent: Vec<Sg>,
    ended: Vec<u32>,
    payload: Sg,
}

impl Transport for Wire {
    fn poll_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    fn receive_data_out(&mut self, request_tag: RequestTag, _: u32) {
        self.requests.push_back(Request::DataOut { request_tag, data: self.payload.clone() });
    }

    fn send_data_in(&mut self, request_tag: RequestTag, data: Sg) {
        self.unsent.push(data);
        self.requests.push_back(Request::DataInTaken { request_tag });
    }

    fn send_command_complete(&mut self, request_tag: RequestTag, response: Response) {
        assert_eq!((response.residual_in, response.residual_out), (Residual::None, Residual::None));
        self.unsent.push(response.data);
        self.ended.push(request_tag.0);
    }

    fn task_management_executed(&mut self, _: RequestTag, _: TaskManagementResponse) {}

    fn terminate(&mut self, _: RequestTag, _: Option<Status>) {}
}

struct Two {
    manager: TaskManager,
    keys: [NexusKey; 2],
    wires: [Wire; 2],
    next: u32,
}

struct Both<'a>([NexusKey; 2], &'a mut [Wire; 2]);

impl Transports for Both<'_> {
    fn transport(&mut self, nexus: NexusKey) -> Option<&mut dyn Transport> {
        let index = self.0.iter().position(|key| *key == nexus)?;
        Some(&mut self.1[index])
    }
}

impl Two {
    /// Two nexuses with a disk in memory, of zeros.
    fn new() -> Self {
        let arena = Arena::new(2 << 20, false).unwrap();
        let context = CoreContext::alone(arena.clone());
        let disk = Arc::new(Disk::new(sbc::Config {
            physical_exponent: 0,
            thin: false,
            ..sbc::Config::new(Identity::new("PTGT", "TEST", "1", None, Uuid::of_name("fence")).unwrap())
        }));
        let store = stores::ram(1 << 20, 512, false).unwrap();
        let store = store.attach(&context).unwrap();
        let mut manager = TaskManager::new(&context, Box::new(MissingLun));
        let unit = UnitKey(1);
        manager.add_unit(unit, Box::new(disk.server()), Some(store));
        let keys = [1, 2].map(|number| manager.add_nexus(NexusId::of(number), name(number), &[(LUN, unit)]));
        let payload = Sg::copied(&arena, &[7; 512]).unwrap();
        let wires = [1, 2].map(|_| Wire { payload: payload.clone(), ..Wire::default() });
        let mut two = Self { manager, keys, wires, next: 0 };
        for nexus in 0..2 {
            // The unit attention of the power-on.
            two.send(nexus, 0x00, TaskAttribute::Simple);
            two.wires[nexus].unsent.clear();
            two.wires[nexus].ended.clear();
        }
        two
    }

    /// Sends TEST UNIT READY, READ(10) or WRITE(10) of the first block, and lets everybody work.
    fn send(&mut self, nexus: usize, opcode: u8, attribute: TaskAttribute) -> u32 {
        let mut cdb = [0; 10];
        (cdb[0], cdb[8]) = (opcode, u8::from(opcode != 0));
        let expected = match opcode {
            0x28 => Expected { data_in: 512, data_out: 0 },
            0x2a => Expected { data_in: 0, data_out: 512 },
            _ => Expected::default(),
        };
        let cdb = Cdb::new(&cdb).unwrap();
        let command = Command { nexus: NexusId::of(nexus as u64 + 1), lun: LUN, cdb, attribute, expected };
        let request_tag = self.next;
        self.next += 1;
        self.wires[nexus]
            .requests
            .push_back(Request::Command { request_tag: RequestTag(request_tag), command });
        self.turn();
        request_tag
    }

    fn turn(&mut self) {
        let Self { manager, keys, wires, .. } = self;
        for _ in 0..4 {
            for (key, wire) in keys.iter().zip(&mut *wires) {
                manager.serve(Instant::ZERO, *key, wire);
            }
            manager.poll_stores(Instant::ZERO, &mut Both(*keys, wires), &mut |_| {});
        }
    }
}

#[test]
fn an_ordered_write_waits_until_what_was_read_before_is_sent() {
    let mut two = Two::new();
    let read = two.send(0, 0x28, TaskAttribute::Simple);
    assert_eq!(two.wires[0].ended, [read]);
    let write = two.send(0, 0x2a, TaskAttribute::Ordered);
    let later = two.send(0, 0x28, TaskAttribute::Simple);
    assert_eq!(two.wires[0].ended, [read], "its data is still to be sent");
    assert!(!two.manager.must_poll(), "it is the wire that is waited for");
    let head = two.send(0, 0x00, TaskAttribute::HeadOfQueue);
    assert_eq!(two.wires[0].ended, [read, head]);
    assert_eq!(two.wires[0].unsent[0].to_vec(), [0; 512]);
    two.wires[0].unsent.clear();
    assert!(two.manager.must_poll());
    two.turn();
    assert_eq!(two.wires[0].ended, [read, head, write, later]);
    assert_eq!(two.wires[0].unsent.last().unwrap().to_vec(), [7; 512]);
    assert!(!two.manager.must_poll());
}

#[test]
fn what_comes_behind_an_ordered_read_waits_until_that_is_sent() {
    for attribute in [TaskAttribute::Ordered, TaskAttribute::HeadOfQueue] {
        let mut two = Two::new();
        let read = two.send(0, 0x28, attribute);
        let write = two.send(0, 0x2a, TaskAttribute::Simple);
        assert_eq!(two.wires[0].ended, [read]);
        two.wires[0].unsent.clear();
        two.turn();
        assert_eq!(two.wires[0].ended, [read, write]);
    }
}

#[test]
fn nobody_waits_for_what_another_nexus_is_sent() {
    let mut two = Two::new();
    two.send(0, 0x28, TaskAttribute::Simple);
    let write = two.send(1, 0x2a, TaskAttribute::Ordered);
    assert_eq!(two.wires[1].ended, [write]);
    // Nor do tasks without an order.
    let read = two.send(1, 0x28, TaskAttribute::Simple);
    let write_again = two.send(1, 0x2a, TaskAttribute::Simple);
    assert_eq!(two.wires[1].ended, [write, read, write_again]);
}

#[test]
fn a_fence_goes_with_its_nexus() {
    let mut two = Two::new();
    two.send(0, 0x28, TaskAttribute::Simple);
    two.send(0, 0x2a, TaskAttribute::Ordered);
    two.manager.remove_nexus(Instant::ZERO, two.keys[0], None);
    two.wires[0].unsent.clear();
    two.keys[0] = two.keys[1];
    two.manager.poll_stores(Instant::ZERO, &mut Both(two.keys, &mut two.wires), &mut |_| {});
    assert!(!two.manager.must_poll());
    assert_eq!(two.manager.tasks(), 0);
}
