// SPDX-License-Identifier: GPL-2.0-or-later
//! FCoE at one end of a pair of network devices, on a VLAN, with two reactors; an initiator of a few frames at the
//! other.

use super::*;
use crate::memory::{Arena, Sg};
use crate::net::{FrameClaim, HostConfig, LinkClient, StreamHost, TcpHost, TxFrame};
use crate::ports::tests::{inside, packet_port, veth};
use crate::wire::fc::{
    Body, ETHERTYPE_FCOE, ETHERTYPE_FIP, ElsRequest, Emit, Eof, FCtl, FcHeader, FcId, FcMap, FcType,
    FcoeFrame, FcpCmnd, FcpServiceParameters, FcpTaskAttribute, FcpTransfer, FipFrame, FipMessage,
    LoginParameters, MacAddress, PageFlags, Parse, ProcessLogin, RCtl, ServicePage, Sof, Vn2VnMessage,
};
use crate::wire::{AdditionalCdb, rewrite::written};

/// The VLAN, without a priority: what the target sends has one.
const TAG: [u8; 4] = [0x81, 0x00, 0, 100];
const ID: FcId = FcId::new(0x77);

struct FcInitiator {
    arena: Arena,
    host: Box<dyn StreamHost>,
    link: LinkClient,
    target: FcId,
    ox_id: u16,
}

impl FcInitiator {
    fn on(device: &str) -> Self {
        let arena = Arena::new(8 << 20, false).unwrap();
        let port = packet_port(device, &arena);
        let host = Box::new(TcpHost::new(port, arena.clone(), &HostConfig::new(Vec::new(), Vec::new())));
        let link = host.link().unwrap().join().unwrap();
        let claim = |ethertype, address: MacAddress| FrameClaim {
            ethertype,
            vlan: Some(100),
            addresses: vec![address.0],
        };
        let own = MacAddress::of_vn_port(FcMap::VN2VN, ID);
        link.claim(&[claim(ETHERTYPE_FIP, MacAddress::ALL_VN2VN), claim(ETHERTYPE_FCOE, own)]).unwrap();
        Self { arena, host, link, target: FcId::UNASSIGNED, ox_id: 0 }
    }

    /// The next frame: its priority, and what is behind its ethertype.
    fn hear(&mut self, ethertype: u16) -> (u8, Vec<u8>) {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            self.host.poll(crate::time::Instant::ZERO, &mut Vec::new());
            if let Some(frame) = self.link.take_frame() {
                if frame.ethertype == ethertype {
                    return (frame.bytes()[14] >> 5, frame.bytes()[frame.body..].to_vec());
                }
                continue;
            }
            thread::sleep(Duration::from_micros(50));
        }
        panic!("nothing comes");
    }

    /// Waits until the target has an identifier.
    fn find(&mut self) {
        loop {
            let (priority, body) = self.hear(ETHERTYPE_FIP);
            assert_eq!(priority, 3);
            let FipMessage::Vn2Vn { message, port, .. } = FipFrame::parse(&body).unwrap().message else {
                panic!("no VN2VN")
            };
            if message == Vn2VnMessage::Beacon {
                assert_eq!(port.port_name.to_string(), "20:00:02:00:00:00:12:34");
                assert_eq!(port.id, FcId::new(0x1234));
                self.target = port.id;
                return;
            }
        }
    }

    fn send(&self, header: FcHeader, payload: &[u8]) {
        let frame = FcoeFrame { sof: Sof::SOF_I3, header, payload, eof: Eof::EOF_T };
        let of = |id| MacAddress::of_vn_port(FcMap::VN2VN, id).0;
        let header = [&of(self.target)[..], &of(ID), &TAG, &ETHERTYPE_FCOE.to_be_bytes()].concat();
        let payload = Sg::copied(&self.arena, &written(&frame)).unwrap();
        let frame = TxFrame { header: header.into(), payload, offload: None };
        self.link.send(crate::time::Instant::ZERO, &mut VecDeque::from([frame]));
    }

    fn begin(&mut self, r_ctl: RCtl, fc_type: FcType, unit: &dyn Emit) -> u16 {
        self.ox_id += 1;
        self.send(FcHeader::request(r_ctl, fc_type, ID, self.target, self.ox_id), &written(unit));
        self.ox_id
    }

    fn els(&mut self, request: &ElsRequest<'_>) {
        let ox_id = self.begin(RCtl::ELS_REQUEST, FcType::ELS, request);
        let (_, body) = self.hear(ETHERTYPE_FCOE);
        let frame = FcoeFrame::parse(&body).unwrap();
        let Ok(Body::ElsReply([2, ..])) = Body::parse(&frame.header, frame.data().unwrap()) else {
            panic!("{:?}", frame.header)
        };
        assert_eq!(frame.header.ox_id, ox_id);
    }

    /// The status of a command, and its data.
    fn command(&mut self, cdb: &[u8], data_out: &[u8], room: u32) -> (u8, Vec<u8>) {
        let transfer = match u32::try_from(data_out.len()).unwrap() {
            0 if room == 0 => FcpTransfer::None,
            0 => FcpTransfer::Read(room),
            len => FcpTransfer::Write(len),
        };
        let mut padded = [0; 16];
        padded[..cdb.len()].copy_from_slice(cdb);
        let command = FcpCmnd {
            lun: 0,
            crn: 0,
            priority: 0,
            attribute: FcpTaskAttribute::SIMPLE,
            task_management: None,
            transfer,
            cdb: padded,
            additional_cdb: AdditionalCdb::default(),
        };
        let ox_id = self.begin(RCtl::FCP_CMND, FcType::FCP, &command);
        let mut read = Vec::new();
        loop {
            let (priority, body) = self.hear(ETHERTYPE_FCOE);
            assert_eq!(priority, 3);
            let frame = FcoeFrame::parse(&body).unwrap();
            assert_eq!(frame.header.ox_id, ox_id);
            match Body::parse(&frame.header, frame.data().unwrap()).unwrap() {
                Body::FcpData { data, .. } => read.extend_from_slice(data),
                Body::FcpXferRdy(ready) => {
                    assert_eq!((ready.relative_offset, ready.burst_len as usize), (0, data_out.len()));
                    let request = FcHeader::request(RCtl::FCP_DATA, FcType::FCP, ID, self.target, ox_id);
                    let f_ctl = FCtl::new(0x09_0008);
                    self.send(FcHeader { f_ctl, rx_id: frame.header.rx_id, ..request }, data_out);
                }
                Body::FcpRsp(response) => return (response.status, read),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn an_fcoe_target_serves_a_disk_on_a_vlan_and_logs_out_at_the_end() {
    const TEST: &str = "runtime::tests::fcoe::an_fcoe_target_serves_a_disk_on_a_vlan_and_logs_out_at_the_end";
    if !inside(TEST, true) {
        return;
    }
    veth();
    let place = Place(std::env::temp_dir().join(format!("ptgt-fcoe-{}", std::process::id())));
    fs::create_dir_all(&place.0).unwrap();
    // Two targets, of which the second one is at home on the other reactor; frames come in at either.
    let text = r#"
        daemon = { control_socket = "socket", state_dir = "state", memory = "16MiB", hugepages = "never", reactors = [0, 1] }
        port = [{ name = "p", driver = "packet", device = "va" }]
        disk = [{ name = "d", store = "ram", size = "1MiB" }]
        fcoe_target = [{ name = "other", port = "p", luns = [{ lun = 0, unit = "d" }] },
            { name = "san", port = "p", vlan = 100, port_name = "20:00:02:00:00:00:12:34", luns = [{ lun = 0, unit = "d" }] }]"#;
    let config = parse(text, &place.0).unwrap();
    // Before the target, which says what it has once in a while only.
    let mut initiator = FcInitiator::on("vb");
    let daemon = thread::spawn(move || run(&config));
    initiator.find();
    let names = ["20:00:02:00:00:00:00:77", "10:00:02:00:00:00:00:77"].map(|name| name.parse().unwrap());
    initiator.els(&ElsRequest::Plogi(LoginParameters::plogi(names[0], names[1], 2112, 2000)));
    let page = ServicePage::fcp(PageFlags::ESTABLISH_IMAGE_PAIR, FcpServiceParameters::INITIATOR);
    initiator.els(&ElsRequest::Prli(ProcessLogin(page)));
    assert_eq!(initiator.command(&[0; 6], &[], 0).0, 2, "power-on");
    assert_eq!(initiator.command(&[0; 6], &[], 0).0, 0);
    let at = |opcode, count| [opcode, 0, 0, 0, 0, 3, 0, 0, count, 0];
    assert_eq!(initiator.command(&at(0x2a, 2), &[7; 1024], 0), (0, vec![]));
    assert_eq!(initiator.command(&at(0x28, 4), &[], 2048), (0, [vec![7; 1024], vec![0; 1024]].concat()));
    let status = client::status(&place.0.join("socket"), StatusRequest { sessions: true }).unwrap();
    let session = &status.fabrics["fcoe_sessions"];
    assert_eq!(
        (session[0]["initiator"].as_str(), session[0]["reactor"].as_u64()),
        (Some("20:00:02:00:00:00:00:77"), Some(1))
    );
    let counters = &status.ports[0].counters;
    let told =
        ["fcp_sessions", "fcp_logins", "exchanges", "open_exchanges", "aborts", "bad_frames", "stray_frames"]
            .map(|name| counters[name]);
    assert_eq!(told, [1, 1, 4, 0, 0, 0, 0]);
    assert_eq!(status.reactors.iter().map(|it| it.serves.sessions).collect::<Vec<_>>(), [0, 1]);
    signal_hook::low_level::raise(SIGTERM).unwrap();
    let (_, body) = initiator.hear(ETHERTYPE_FCOE);
    let frame = FcoeFrame::parse(&body).unwrap();
    let last = Body::parse(&frame.header, frame.data().unwrap()).unwrap();
    assert!(matches!(last, Body::ElsRequest(ElsRequest::Logo(_))), "{last:?}");
    daemon.join().unwrap().unwrap();
}
