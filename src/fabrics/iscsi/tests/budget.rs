// SPDX-License-Identifier: GPL-2.0-or-later
//! What is held for a peer is on its account, and who has too much there is not read.

use super::*;
use crate::fabrics::iscsi::initiator::Transfer;
use crate::memory::MemoryAccount;

const PING: usize = 200_000;

/// A world whose session has accounts: one of its connection, one of its commands.
fn billed(bytes: u64, keys: &[(&str, &str)]) -> (World, [MemoryAccount; 2]) {
    let mut world = World::logged_in(Parameters::default(), keys);
    let root = MemoryAccount::root(bytes);
    let accounts = [(); 2].map(|()| root.connection());
    world.session.bill(world.key, &accounts[0], Some(&accounts[1]));
    (world, accounts)
}

#[test]
fn what_is_held_is_on_the_account() {
    let (mut world, [connection, commands]) = billed(64 << 20, &[("InitialR2T", "No")]);
    let ping = world.initiator.nop_out(&vec![5; PING]).encode(Digests::default());
    world.receive(&ping[..PING - 100]);
    assert!(connection.used() >= PING as u64 - 100, "a PDU that is not whole: {connection:?}");
    world.receive(&ping[PING - 100..]);
    assert!((8192..PING as u64).contains(&connection.used()), "an answer that was not sent: {connection:?}");
    world.run();
    assert_eq!(connection.used(), 0);
    let mut text = world.initiator.text(&[b'a'; 3000]);
    text.bhs.bytes_mut()[1] = 0x40;
    world.exchange(&[text]);
    assert_eq!(connection.used(), 3000, "half a text");

    let read = world.initiator.command(0, &[HOLD], Transfer::read(300_000));
    world.exchange(&[read]);
    assert_eq!(commands.used(), 300_000, "what a command may make us hold");
    let missing = world.initiator.command(0, &[HOLD], Transfer::NONE);
    let early = world.initiator.command(0, &vendor(WRITE_IN_PARTS, 3000, 1000), Transfer::write(3000));
    world.exchange(&[early.data(&pattern_of(0, 3000))]);
    assert_eq!((commands.used(), connection.used()), (300_000, 6000), "a command that came before its turn");
    world.exchange(&[missing]);
    assert_eq!((commands.used(), connection.used()), (300_000, 3000), "it has ended");
    world.end();
    assert_eq!((connection.used(), commands.used()), (0, 0));
}

#[test]
fn who_has_too_much_on_the_account_is_not_read() {
    let length = [("MaxRecvDataSegmentLength", "262144")];
    let (mut world, [connection, commands]) = billed(1 << 20, &length);
    for _ in 0..4 {
        let ping = world.initiator.nop_out(&vec![5; PING]).encode(Digests::default());
        world.receive(&ping);
        assert!(world.session.is_receiving(world.key), "{connection:?}");
    }
    let ping = world.initiator.nop_out(&vec![5; PING]).encode(Digests::default());
    world.receive(&ping);
    assert!(!world.session.is_receiving(world.key), "{connection:?}");
    // A command finds no memory, and says so.
    assert!(!commands.take(600 << 10));
    world.run();
    assert!(world.session.is_receiving(world.key), "the answers have been sent");
    world.end();
}
