// SPDX-License-Identifier: GPL-2.0-or-later
//! Unit attentions of which a transport may tell before the next command.

use super::*;

#[test]
fn unit_attentions_are_told_where_nothing_is_under_way() {
    let mut world = World::new(TransportKind::Stream, 0);
    let unit = UnitKey(1);
    world.stores[0].borrow_mut().hold = true;
    // The first nexus has a command under way at the disk, the second has none.
    world.command(0, 1, DISK, &read(0, 1), BLOCK as u32, &[]);
    world.turn();
    world.manager.attention(unit, 0x2a09, None);
    world.turn();
    let sense = Sense::new(key::UNIT_ATTENTION, 0x2a09).encode(false).to_vec();
    assert!(world.wire(0).events.is_empty());
    assert_eq!(world.wire(1).events, [(DISK, sense)]);
    // It stays, for both.
    for nexus in 0..2 {
        world.command(nexus, 2, DISK, &[0; 10], 0, &[]);
        world.turn();
        assert_eq!(world.wire(nexus).responses.pop().unwrap().1, Status::CheckCondition);
    }
    // Who has caused a change knows of it, and what has no logical unit of that kind hears nothing.
    world.wire(1).events.clear();
    world.manager.attention(unit, 0x2a01, Some(NexusId::of(1)));
    world.turn();
    assert!(world.wire(1).events.is_empty());
}
