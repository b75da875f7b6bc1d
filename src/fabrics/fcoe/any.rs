// SPDX-License-Identifier: GPL-2.0-or-later
//! A port that gets any frames, with a task manager that ends some tasks and leaves others: for tests and the fuzz
//! target. Nothing panics, and all memory comes back.

use std::time::Duration;

use super::{FcoeCounters, FcoePort, FcoePortEvent, FcoePortOptions, PortIdentity, ReceivedFrame};
use crate::memory::{Arena, Sg};
use crate::scsi::{
    EncodedSense, Request, RequestTag, Residual, Response, Status, TaskManagementResponse, Transport,
};
use crate::time::Instant;
use crate::wire::fc::{
    ETHERTYPE_FCOE, FcCrc, FcMap, FcoePacket, FipFrame, FipMessage, MacAddress, NaaName, Parse,
};

/// The address of the port, whose last bytes are its identifier.
const MAC: MacAddress = MacAddress([2, 0xfc, 0, 0, 0, 0x0b]);

/// See the module.
pub(crate) struct AnyFrames {
    port: FcoePort,
    arena: Arena,
    now: Instant,
    /// Tasks by session.
    tasks: Vec<(usize, RequestTag)>,
    count: usize,
}

impl AnyFrames {
    /// One that has its identifier.
    pub(crate) fn new() -> Self {
        let arena = Arena::new(8 << 20, false).expect("memory");
        let port_name = NaaName::Extended { vendor: 0, mac: MAC }.into();
        let identity = PortIdentity { port_name, node_name: NaaName::Ieee48(MAC).into(), mac: MAC };
        let options = FcoePortOptions { identity, mtu: 2500, initiators: None };
        let port = FcoePort::new(options, &arena, Instant::ZERO);
        let mut new = Self { port, arena, now: Instant::ZERO, tasks: Vec::new(), count: 0 };
        for _ in 0..20 {
            new.pass();
        }
        new
    }

    fn pass(&mut self) {
        self.now = self.now + Duration::from_millis(100);
        self.port.poll(self.now);
        while self.port.poll_frame().is_some() {}
        self.serve();
    }

    /// Takes an Ethernet frame from its ethertype on, as if it came from the port that it says it comes from. The CRC
    /// of an FCoE frame is put right.
    pub(crate) fn take(&mut self, frame: &[u8]) {
        let Some((ethertype, body)) = frame.split_first_chunk() else { return };
        let (ethertype, mut body) = (u16::from_be_bytes(*ethertype), body.to_vec());
        let mut from = MacAddress([2, 0xfc, 0, 0, 0, 0x0a]);
        if ethertype == ETHERTYPE_FCOE {
            let Ok(packet) = FcoePacket::new(&body) else { return };
            from = MacAddress::of_vn_port(FcMap::VN2VN, packet.header().s_id);
            let (crc, at) = (FcCrc::of(packet.covered()).wire(), body.len() - 8);
            body[at..at + 4].copy_from_slice(&crc);
        } else if let Ok(FipFrame { message: FipMessage::Vn2Vn { mac, .. }, .. }) = FipFrame::parse(&body) {
            from = mac;
        }
        self.port.receive(self.now, ReceivedFrame { to: MAC, from, ethertype, body: &body });
        self.count += 1;
        if self.count.is_multiple_of(4) {
            self.pass();
        }
        while self.port.poll_frame().is_some() {}
        self.serve();
    }

    fn serve(&mut self) {
        while let Some(event) = self.port.poll_event() {
            if let FcoePortEvent::Left(number) = event {
                self.tasks.retain(|(session, _)| *session != number);
                self.port.session_ended(number);
            }
        }
        let numbers: Vec<usize> = self.port.sessions().map(|(number, _)| number).collect();
        for number in numbers {
            while let Some(session) = self.port.session(number)
                && let Some(request) = session.poll_request()
            {
                match request {
                    Request::Command { request_tag, command } => {
                        assert!(!self.tasks.contains(&(number, request_tag)), "a name that another task has");
                        self.tasks.push((number, request_tag));
                        match command.expected.data_out {
                            0 => {}
                            len => session.receive_data_out(request_tag, len.min(1 << 18)),
                        }
                    }
                    Request::TaskManagement { request, .. } => {
                        session.task_management_executed(request, TaskManagementResponse::Rejected);
                    }
                    Request::Abandoned { request_tag } => {
                        let before = self.tasks.len();
                        self.tasks.retain(|task| *task != (number, request_tag));
                        if self.tasks.len() < before {
                            session.terminate(request_tag, None);
                        }
                    }
                    Request::DataOut { .. } | Request::DataInTaken { .. } => {}
                }
            }
            let done = self.tasks.iter().position(|(session, _)| *session == number);
            if let Some(place) = done.filter(|_| self.count.is_multiple_of(3))
                && let Some(session) = self.port.session(number)
            {
                let (_, tag) = self.tasks.swap_remove(place);
                let data = Sg::copied(&self.arena, &[7; 96]).unwrap_or_default();
                let (sense, residual) = (EncodedSense::new(), Residual::None);
                let (residual_in, residual_out) = (residual, residual);
                let status = Status::Good;
                let response = Response { status, sense, data, residual_in, residual_out };
                session.send_command_complete(tag, response);
            }
        }
    }

    /// There are no more. Returns what was counted.
    pub(crate) fn end(self) -> FcoeCounters {
        let Self { port, arena, .. } = self;
        let counters = port.counters();
        drop(port);
        assert_eq!(arena.in_use(), 0, "memory that nobody has");
        counters
    }
}
