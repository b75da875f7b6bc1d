// SPDX-License-Identifier: GPL-2.0-or-later
//! Every page and every command without user data, byte by byte.

use super::*;

/// `len` bytes that begin with `head` and go on with zeros.
fn padded(head: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = head.to_vec();
    bytes.resize(len, 0);
    bytes
}

fn vpd(rig: &mut Rig, page: u8) -> Vec<u8> {
    rig.read(&[0x12, 1, page, 1, 0, 0]).good()
}

#[test]
fn standard_inquiry() {
    let mut rig = Rig::thin();
    let mut wanted = vec![0, 0, 6, 0x32, 91, 0x38, 0, 2];
    wanted.extend(b"PTGT    VIRTUAL DISK    0001");
    wanted.resize(58, 0);
    wanted.extend([0x00, 0xa0, 0x04, 0x60, 0x04, 0xc0]);
    wanted.resize(96, 0);
    assert_eq!(rig.read(&[0x12, 0, 0, 1, 4, 0]).good(), wanted);
    // Every allocation length cuts, and the length field stays as it is.
    for len in 0..=255 {
        let ended = rig.read(&[0x12, 0, 0, 0, len, 0]);
        assert_eq!(ended.outcome.data_in, u64::from(len).min(96));
        assert_eq!(ended.good(), wanted[..usize::from(len).min(96)]);
    }
    // CMDDT, and a page code without EVPD.
    assert_eq!(rig.read(&[0x12, 2, 0, 0, 96, 0]).sense(), INVALID_FIELD_IN_CDB);
    assert_eq!(rig.read(&[0x12, 0, 1, 0, 96, 0]).sense(), INVALID_FIELD_IN_CDB);
}

#[test]
fn common_vital_product_data() {
    let mut rig = Rig::thin();
    assert_eq!(vpd(&mut rig, 0x00), [0, 0, 0, 10, 0, 0x80, 0x83, 0x86, 0x87, 0x88, 0x8f, 0xb0, 0xb1, 0xb2]);
    assert_eq!(vpd(&mut rig, 0x80), [0, 0x80, 0, 3, b'S', b'-', b'1']);
    let uuid = 0x42de23bf_1d3c_84bf_af3a_570e3865f43d_u128.to_be_bytes();
    let mut wanted = vec![0, 0x83, 0, 0];
    wanted.extend([1, 3, 0, 8]);
    wanted.push(0x30 | uuid[8] & 0x0f);
    wanted.extend(&uuid[9..]);
    // NAA 6h, assigned locally.
    wanted.extend([1, 3, 0, 16]);
    wanted.extend(0x62ee23bf_1d3c_84bf_af3a_570e3865f43d_u128.to_be_bytes());
    wanted.extend([2, 1, 0, 11]);
    wanted.extend(b"PTGT    S-1");
    wanted.extend([1, 0x0a, 0, 18, 0x10, 0]);
    wanted.extend(uuid);
    // Relative target port, target port group, names of the port and of its device.
    wanted.extend([0x51, 0x94, 0, 4, 0, 0, 0, 7, 0x51, 0x95, 0, 4, 0, 0, 0, 2]);
    wanted.extend([0x53, 0x98, 0, 28]);
    wanted.extend(b"iqn.2026-11.test:t,t,0x0002\0");
    wanted.extend([0x53, 0xa8, 0, 20]);
    wanted.extend(b"iqn.2026-11.test:t\0\0");
    wanted[3] = wanted.len() as u8 - 4;
    assert_eq!(vpd(&mut rig, 0x83), wanted);
    for page in [0x01, 0x81, 0x85, 0xb3, 0xff] {
        assert_eq!(rig.read(&[0x12, 1, page, 1, 0, 0]).sense(), INVALID_FIELD_IN_CDB);
    }
}

#[test]
fn what_else_it_says_of_itself() {
    let mut rig = Rig::thin();
    // HEADSUP, ORDSUP and SIMPSUP, V_SUP, the longest sense data.
    assert_eq!(vpd(&mut rig, 0x86), padded(&[0, 0x86, 0, 60, 0, 7, 1, 0, 0, 0, 0, 0, 0, 64], 64));
    assert_eq!(vpd(&mut rig, 0x87), [0, 0x87, 0, 4, 0x3f, 0xff, 0, 0], "all pages are shared");
    let url = "https://lab.example/ptgt";
    let mut rig = Rig::new(Config { management: Some(url.into()), ..config() });
    assert_eq!(vpd(&mut rig, 0)[7..9], [0x85, 0x86]);
    let wanted = [&[0, 0x85, 0, 32, 1, 0, 0, 28], url.as_bytes(), &[0; 4]].concat();
    assert_eq!(vpd(&mut rig, 0x85), wanted);
}

/// SPC-5 7.7.15: all ports through which the logical unit is reached, whichever was asked.
#[test]
fn scsi_ports() {
    let mut rig = Rig::thin();
    let elsewhere = Arc::new(TargetPort::iscsi(3, "iqn.2026-11.test:other", 1));
    let first = Group { id: 1, ports: vec![elsewhere], ..group() };
    rig.state = Arc::new(UnitState::new(Reservations::default(), vec![group(), first]));
    assert_eq!(rig.read(&[0x12, 0, 0, 0, 96, 0]).good()[6], 0x10, "MULTIP");
    let port = |relative: u8, name: &str, len: u8| {
        let mut bytes = vec![0, 0, 0, relative, 0, 0, 0, 0, 0, 0, 0, len + 4, 0x53, 0x98, 0, len];
        bytes.extend(name.as_bytes());
        padded(&bytes, 16 + usize::from(len))
    };
    let ports =
        [port(3, "iqn.2026-11.test:other,t,0x0001", 32), port(7, "iqn.2026-11.test:t,t,0x0002", 28)].concat();
    assert_eq!(vpd(&mut rig, 0x88), [&[0, 0x88, 0, ports.len() as u8], &ports[..]].concat());
}

#[test]
fn block_limits() {
    let mut wanted = [
        0, 0xb0, 0, 0x3c, 1, 128, 0, 1, // COMPARE AND WRITE, granularity
        0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // transfer lengths
        0, 0x10, 0, 0, 0, 0, 1, 0, 0, 0, 0, 8, 0x80, 0, 0, 0, // UNMAP
        0, 0, 0, 0, 0, 0x40, 0, 0, // WRITE SAME
        0, 0, 0, 128, // atomic writes
    ];
    assert_eq!(vpd(&mut Rig::thin(), 0xb0), padded(&wanted, 64));
    wanted[20..36].fill(0);
    assert_eq!(vpd(&mut Rig::thick(), 0xb0), padded(&wanted, 64));

    let shape = Config { block: BlockSize::B4096, physical_exponent: 3, ..config() };
    let page = vpd(&mut Rig::new(shape), 0xb0);
    assert_eq!(page[4..12], [1, 16, 0, 8, 0, 0, 0x20, 0]);
    assert_eq!(page[28..32], [0, 0, 0, 8]);
}

#[test]
fn characteristics_and_provisioning() {
    let mut rig = Rig::thin();
    assert_eq!(vpd(&mut rig, 0xb1), padded(&[0, 0xb1, 0, 0x3c, 0, 1, 0, 0x40], 64));
    assert_eq!(vpd(&mut rig, 0xb2), [0, 0xb2, 0, 4, 11, 0xe6, 2, 0]);
    assert_eq!(vpd(&mut Rig::thick(), 0xb2), [0, 0xb2, 0, 4, 0, 0, 0, 0]);
    // A store that cannot deallocate makes the disk thick, whatever the configuration.
    rig.geometry.thin = false;
    assert_eq!(vpd(&mut rig, 0xb2), [0, 0xb2, 0, 4, 0, 0, 0, 0]);
}

#[test]
fn read_capacity() {
    let mut rig = Rig::thin();
    let long = |len: u8| [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, len, 0, 0];
    assert_eq!(rig.read(&cdb10(0x25, 0, 0, 0)).good(), [0, 0, 0x0f, 0xff, 0, 0, 2, 0]);
    let wanted = padded(&[0, 0, 0, 0, 0, 0, 0x0f, 0xff, 0, 0, 2, 0, 0, 0, 0xc0, 0], 32);
    assert_eq!(rig.read(&long(255)).good(), wanted);
    for len in 0..40 {
        assert_eq!(rig.read(&long(len)).good(), wanted[..usize::from(len).min(32)]);
    }
    // PMI, and an address without it.
    assert_eq!(rig.read(&[0x25, 0, 0, 0, 0, 0, 0, 0, 1, 0]).sense(), INVALID_FIELD_IN_CDB);
    assert_eq!(rig.read(&cdb10(0x25, 0, 1, 0)).sense(), INVALID_FIELD_IN_CDB);

    // The store grows.
    rig.geometry.bytes = 1 << 42;
    assert_eq!(rig.read(&cdb10(0x25, 0, 0, 0)).good(), [0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0]);
    assert_eq!(rig.read(&long(8)).good(), [0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]);

    let mut rig = Rig::new(Config { physical_exponent: 3, thin: false, ..config() });
    assert_eq!(rig.read(&long(32)).good()[12..16], [0, 3, 0, 0]);
    let mut rig = Rig::new(Config { block: BlockSize::B4096, ..config() });
    assert_eq!(rig.read(&cdb10(0x25, 0, 0, 0)).good(), [0, 0, 0x0f, 0xff, 0, 0, 0x10, 0]);
}

#[test]
fn report_luns() {
    let mut rig = Rig::thin();
    rig.luns.push(Lun::REPORT_LUNS);
    let cdb = |select, len| [0xa0, 0, select, 0, 0, 0, 0, 0, 0, len, 0, 0];
    let ordinary = [[0, 0, 0, 0, 0, 0, 0, 0], [0, 5, 0, 0, 0, 0, 0, 0], [0x41, 0x2c, 0, 0, 0, 0, 0, 0]];
    let well_known = [0xc1, 1, 0, 0, 0, 0, 0, 0];
    let list =
        |luns: &[[u8; 8]]| [&[0, 0, 0, luns.len() as u8 * 8, 0, 0, 0, 0], luns.as_flattened()].concat();
    assert_eq!(rig.read(&cdb(0, 255)).good(), list(&ordinary));
    assert_eq!(rig.read(&cdb(1, 255)).good(), list(&[well_known]));
    assert_eq!(rig.read(&cdb(2, 255)).good(), list(&[&ordinary[..], &[well_known]].concat()));
    assert_eq!(rig.read(&cdb(0, 16)).good(), list(&ordinary)[..16]);
    assert_eq!(rig.read(&cdb(3, 255)).sense(), INVALID_FIELD_IN_CDB);
}

#[test]
fn sense_on_request() {
    let mut rig = Rig::thin();
    let fixed = [0x70, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(rig.read(&[3, 0, 0, 0, 252, 0]).good(), fixed);
    assert_eq!(rig.read(&[3, 1, 0, 0, 252, 0]).good(), [0x72, 0, 0, 0, 0, 0, 0, 0]);
    // A unit attention is told once.
    rig.attentions.establish(0x2901);
    assert_eq!(rig.read(&[3, 1, 0, 0, 252, 0]).good(), [0x72, 6, 0x29, 1, 0, 0, 0, 0]);
    assert_eq!(rig.read(&[3, 0, 0, 0, 4, 0]).good(), fixed[..4]);
}

#[test]
fn commands_that_say_nothing() {
    let mut rig = Rig::thin();
    rig.none(&[0; 6]).good();
    assert_eq!(rig.none(&[0, 0, 0, 0, 1, 0]).sense(), INVALID_FIELD_IN_CDB);
    for cdb in [cdb10(0x34, 0, 0, 0), cdb10(0x34, 2, 5, 100)] {
        assert_eq!(rig.none(&cdb).outcome.status, Status::ConditionMet);
    }
    assert_eq!(rig.none(&cdb16(0x90, 2, 0, 9)).outcome.status, Status::ConditionMet);
    assert!(rig.log.is_empty());
    for cdb in [&cdb10(0x35, 0, 0, 0)[..], &cdb10(0x35, 2, 9, 9), &cdb16(0x91, 0, 0, 0)] {
        rig.none(cdb).good();
    }
    assert_eq!(rig.log.len(), 3);
    // Stopping flushes, unless told not to; whatever else changes nothing.
    for flags in [0x01, 0x04, 0x10, 0x35, 0xb0] {
        rig.none(&[0x1b, 0, 0, 0, flags, 0]).good();
    }
    assert_eq!(rig.log.len(), 3);
    rig.none(&[0x1b, 1, 0, 0, 0, 0]).good();
    assert_eq!(rig.log.len(), 4);
    assert_eq!(rig.none(&[0x1b, 0, 0, 0, 2, 0]).sense(), INVALID_FIELD_IN_CDB, "LOEJ");
    rig.none(&[0; 6]).good();
}

#[test]
fn supported_task_management_functions() {
    let mut rig = Rig::thin();
    let cdb = |flags| [0xa3, 0x0d, flags, 0, 0, 0, 0, 0, 0, 64, 0, 0];
    assert_eq!(rig.read(&cdb(0)).good(), [0xfa, 0, 0, 0]);
    assert_eq!(rig.read(&cdb(0x80)).good(), padded(&[0xfa, 0, 0, 12], 16));
}
