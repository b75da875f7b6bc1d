// SPDX-License-Identifier: GPL-2.0-or-later
//! Commands straight into the task manager, from a transport that moves data by handing it over.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Outcome, Setup, Turns, World};
use crate::bench::load::{Load, Operation, Tally};
use crate::engine::tasks::{NexusKey, TaskManager, Transports};
use crate::memory::{Arena, Sg};
use crate::scsi::{
    Cdb, Command, Expected, Lun, Nexus, NexusId, PortName, Request, RequestTag, Response, Sense, Status,
    TargetPort, TaskAttribute, TaskManagementResponse, Transport,
};
use crate::time::Instant;

struct Direct {
    nexus: NexusId,
    requests: VecDeque<Request>,
    slots: Vec<(Operation, Instant)>,
    free: Vec<u32>,
    load: Load,
    arena: Arena,
    /// What writes that are not verified consist of.
    payload: Sg,
    now: Instant,
}

impl Direct {
    fn fill(&mut self, block_size: u32) {
        while let Some(&slot) = self.free.last()
            && let Some(operation) = self.load.next(0, self.now)
        {
            self.free.pop();
            self.slots[slot as usize] = (operation, self.now);
            let block = self.load.block();
            let blocks = block / block_size;
            let mut cdb = [0; 16];
            cdb[0] = if operation.write { 0x8a } else { 0x88 };
            cdb[2..10].copy_from_slice(&(operation.index * u64::from(blocks)).to_be_bytes());
            cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
            let expected = match operation.write {
                true => Expected { data_in: 0, data_out: block },
                false => Expected { data_in: block, data_out: 0 },
            };
            let command = Command {
                nexus: self.nexus,
                lun: Lun::ZERO,
                cdb: Cdb::new(&cdb).expect("sixteen bytes"),
                attribute: TaskAttribute::Simple,
                expected,
            };
            self.requests.push_back(Request::Command { request_tag: RequestTag(slot), command });
        }
    }
}

impl Transport for Direct {
    fn poll_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    fn receive_data_out(&mut self, request_tag: RequestTag, len: u32) {
        let operation = self.slots[request_tag.0 as usize].0;
        let data = match self.load.verifies() {
            false => self.payload.clone().split_to(len as usize),
            true => {
                let mut block = self.arena.alloc(len as usize).expect("memory for the payload of all slots");
                self.load.stamp(operation, block.bytes_mut());
                block.freeze().into()
            }
        };
        self.requests.push_back(Request::DataOut { request_tag, data });
    }

    fn send_data_in(&mut self, request_tag: RequestTag, _: Sg) {
        self.requests.push_back(Request::DataInTaken { request_tag });
    }

    fn send_command_complete(&mut self, request_tag: RequestTag, response: Response) {
        let (operation, begun) = self.slots[request_tag.0 as usize];
        if self.load.verifies() && !operation.write {
            self.load.check(operation, 0, &response.data.to_vec());
        }
        match response.status {
            Status::Good => self.load.done(operation, begun, self.now),
            _ => {
                self.load.failed(operation, Sense::key_and_code(&response.sense).unwrap_or_default());
            }
        }
        self.free.push(request_tag.0);
    }

    fn task_management_executed(&mut self, _: RequestTag, _: TaskManagementResponse) {}

    fn terminate(&mut self, _: RequestTag, _: Option<Status>) {}
}

struct Only<'a>(&'a mut Direct);

impl Transports for Only<'_> {
    fn transport(&mut self, _: NexusKey) -> Option<&mut dyn Transport> {
        Some(self.0)
    }
}

/// One turn of the target: what instructions are counted in.
#[inline(never)]
fn turn(tasks: &mut TaskManager, key: NexusKey, direct: &mut Direct) {
    let now = direct.now;
    tasks.serve(now, key, direct);
    tasks.poll_stores(now, &mut Only(direct), &mut |_| {});
    tasks.serve(now, key, direct);
    tasks.commit();
    tasks.turned(now);
}

pub(super) fn run(
    world: World,
    setup: &Setup,
    load: Load,
    clock: &dyn Fn() -> Instant,
    progress: &mut dyn FnMut(&Tally),
) -> Result<Outcome, String> {
    let World { context, mut tasks, unit, .. } = world;
    let arena = context.arena().clone();
    let name = Nexus {
        initiator: PortName::iscsi_initiator("", [0; 6]),
        port: Arc::new(TargetPort::iscsi(1, "", 1)),
    };
    let nexus = tasks.new_nexus_id();
    let key = tasks.add_nexus(nexus, name, &[(Lun::ZERO, unit)]);
    let block = arena.alloc(load.block() as usize).ok_or("the block is too large")?;
    let block_size = tasks.geometry(unit).block;
    let mut direct = Direct {
        nexus,
        requests: VecDeque::new(),
        slots: vec![(Operation::default(), Instant::ZERO); setup.queue as usize],
        free: (0..setup.queue).collect(),
        load,
        payload: block.freeze().into(),
        arena,
        now: clock(),
    };
    // The unit attention of the power-on goes to the first command that is none of the load's.
    let command = Command {
        nexus,
        lun: Lun::ZERO,
        cdb: Cdb::new(&[0; 6]).expect("six bytes"),
        attribute: TaskAttribute::Simple,
        expected: Expected::default(),
    };
    direct
        .requests
        .push_back(Request::Command { request_tag: RequestTag(direct.free.pop().unwrap_or(0)), command });
    turn(&mut tasks, key, &mut direct);
    (direct.load.tally.failed, direct.load.tally.total, direct.load.tally.sense) = (0, 0, None);
    let mut turns = Turns::begin();
    while direct.load.goes_on(direct.now) || direct.free.len() < direct.slots.len() {
        direct.fill(block_size);
        turns.time(|| turn(&mut tasks, key, &mut direct));
        direct.now = clock();
        progress(&direct.load.tally);
    }
    Ok(Outcome { tally: direct.load.tally, turns, frames: None })
}
