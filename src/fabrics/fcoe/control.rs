// SPDX-License-Identifier: GPL-2.0-or-later
//! Frames without data that have yet to be sent: FIP messages, link services and their answers. There are few, so they
//! are made at once.

use std::collections::VecDeque;

use crate::wire::fc::{
    ETHERTYPE_FCOE, ETHERTYPE_FIP, Emit, Eof, FcHeader, FcMap, FcoeFrame, FipFrame, MacAddress, Sof,
};

/// Most of them that wait; more are lost, as frames may be.
const CONTROL_FRAMES_MAX: usize = 1024;

/// A frame without its Ethernet header.
pub(super) struct ControlFrame {
    pub(super) to: MacAddress,
    pub(super) from: MacAddress,
    pub(super) ethertype: u16,
    pub(super) body: Vec<u8>,
}

/// See the module.
#[derive(Default)]
pub(super) struct ControlFrames(VecDeque<ControlFrame>);

impl ControlFrames {
    fn push(&mut self, (to, from): (MacAddress, MacAddress), ethertype: u16, body: Vec<u8>) {
        if self.0.len() < CONTROL_FRAMES_MAX {
            self.0.push_back(ControlFrame { to, from, ethertype, body });
        }
    }

    /// A FIP message, with zeros behind it up to so many bytes.
    pub(super) fn fip(&mut self, (to, from): (MacAddress, MacAddress), message: &FipFrame<'_>, len: usize) {
        let mut body = bytes(message);
        body.resize(body.len().max(len), 0);
        self.push((to, from), ETHERTYPE_FIP, body);
    }

    /// An information unit of one frame, between VN_Ports.
    pub(super) fn fc(&mut self, header: FcHeader, unit: &dyn Emit) {
        let mut payload = bytes(unit);
        let fill = payload.len().next_multiple_of(4) - payload.len();
        payload.resize(payload.len() + fill, 0);
        let header = FcHeader { f_ctl: header.f_ctl.with_fill(fill), ..header };
        let frame = FcoeFrame { sof: Sof::SOF_I3, header, payload: &payload, eof: Eof::EOF_T };
        self.push(vn_addresses(&header), ETHERTYPE_FCOE, bytes(&frame));
    }

    /// The next one.
    pub(super) fn first(&self) -> Option<&ControlFrame> {
        self.0.front()
    }

    /// The next one is on its way.
    pub(super) fn sent(&mut self) {
        self.0.pop_front();
    }
}

/// To which address a frame goes in VN2VN, and from which.
pub(super) fn vn_addresses(header: &FcHeader) -> (MacAddress, MacAddress) {
    let of = |id| MacAddress::of_vn_port(FcMap::VN2VN, id);
    (of(header.d_id), of(header.s_id))
}

fn bytes(what: &dyn Emit) -> Vec<u8> {
    let mut bytes = vec![0; what.buffer_len()];
    what.emit(&mut bytes);
    bytes
}
