// SPDX-License-Identifier: GPL-2.0-or-later
//! Throughput over loss, delay and window: what the host brings to a peer through a bottleneck of 1 Gbit/s with a queue
//! of 256 KiB, in simulated time. The figures are exact for a seed; whoever changes how losses are repaired changes
//! them, and shows here what it has brought.

use std::fmt::Write;
use std::time::Duration;

use super::peer::*;
use crate::ports::memory::Faults;

/// KiB/s over so many bytes, the middle of three seeds.
fn throughput(loss: f64, round_trip: Duration, window: usize, offload: bool) -> u64 {
    const LEN: u64 = 4 << 20;
    let mut rates = [1, 2, 3].map(|seed| {
        let mut world = World::new(Setup { seed, window, offload, ..Setup::default() });
        let (rate, queue) = (Some(125_000_000), 256 << 10);
        world.faults(Faults { loss, delay: round_trip / 2, rate, queue, ..Faults::default() });
        world.owner.send = LEN;
        let (client, _) = world.established(0);
        let begin = world.now;
        assert!(world.run(Duration::from_secs(600), |world| world.clients[client].received == LEN));
        LEN * 1_000_000 / 1024 / u64::try_from((world.now - begin).as_micros()).expect("minutes")
    });
    rates.sort_unstable();
    rates[1]
}

#[test]
fn throughput_over_loss_delay_and_window() {
    let mut table = String::from("loss %  round trip us  window KiB     KiB/s  whole\n");
    for loss in [0.0, 0.001, 0.01, 0.05] {
        for micros in [200, 20_000] {
            for window in [64, 1024] {
                let rate = |offload| throughput(loss, Duration::from_micros(micros), window << 10, offload);
                let (cut, whole) = (rate(false), rate(true));
                writeln!(table, "{:6.1}  {micros:13}  {window:10}  {cut:8}  {whole:5}", loss * 100.0)
                    .expect("memory");
            }
        }
    }
    assert_eq!(table, include_str!("grid.txt"), "the table is now:\n{table}");
}
