// SPDX-License-Identifier: GPL-2.0-or-later
//! Libraries that one can buy.

use super::super::personality::{DriveNaming, PERSONALITIES};
use super::*;
use crate::wire::scsi::be16;

#[test]
fn every_row_of_the_table_makes_a_whole_library() {
    let mut names: Vec<_> = PERSONALITIES.iter().map(|known| known.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), PERSONALITIES.len());
    for personality in PERSONALITIES {
        let [hand, slot, mail, drive] = personality.first;
        let addresses = ElementAddresses::new(personality.first, [1, 40, 5, 2]).expect(personality.name);
        let names = identity("X", "L-1").renamed(personality.inquiry.map(Some)).unwrap();
        let changer = MediaChanger::new(personality, names, None, 0, addresses);
        let drives = ["D-1", "D-2"].map(|serial| identity("VIRTUAL-TAPE", serial));
        changer.furnish(None, &["A00001L8".to_owned()], drives.into()).unwrap();
        let mut rig = ChangerRig { server: PrimaryServer::new(Arc::new(changer)), ..ChangerRig::new() };
        rig.attentions = UnitAttentions::default();
        // Mode page 1Dh says where they are.
        let page = rig.good(&[0x1a, 8, 0x1d, 0, 255, 0], &[], 255);
        let told = [6, 10, 14, 18].map(|at| be16(&page, at));
        assert_eq!(told, [hand, slot, mail, drive], "{}", personality.name);
        rig.good(&move_medium(slot, drive + 1), &[], 0);
        // READ ELEMENT STATUS of drives, with their names.
        let [a, b] = drive.to_be_bytes();
        let data = rig.good(&[0xb8, 4, a, b, 0, 2, 1, 0, 4, 0, 0, 0], &[], 1024);
        let (kind, identifier) = match personality.naming {
            DriveNaming::Full => (1, format!("{:<8}{:<16}{:<10}", "PTGT", "VIRTUAL-TAPE", "D-1")),
            DriveNaming::Serial => (0, format!("{:<20}", "D-1")),
        };
        assert_eq!(usize::from(be16(&data, 10)), 16 + identifier.len(), "{}", personality.name);
        assert_eq!(data[28..32], [2, kind, 0, identifier.len() as u8], "{}", personality.name);
        assert_eq!(&data[32..32 + identifier.len()], identifier.as_bytes(), "{}", personality.name);
    }
}
