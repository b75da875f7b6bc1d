// SPDX-License-Identifier: GPL-2.0-or-later
//! A logical unit takes the place of another and has its state: what is reserved holds for both, while what was under
//! way at the old one ends.

use super::*;

const NEXT: UnitKey = UnitKey(3);

impl Cores {
    /// A unit comes to a core that has the state of the first, and its bytes.
    fn bring_next(&mut self, core: usize) -> Slow {
        let row = self.unit.row();
        let state = self.managers[core].units[row].shared.clone();
        let slow = Slow { held: Rc::default(), done: Rc::default(), ..self.stores[core].clone() };
        self.managers[core].bring(NewUnit {
            key: NEXT,
            owner: None,
            server: Box::new(Guarded::default()),
            store: Some(Box::new(slow.clone())),
            state,
            slot: Some(RecordSlot(0)),
            faults: None,
        });
        slow
    }

    /// A client sees it in the place of the first.
    fn see_next(&mut self, client: usize) {
        let Client { core, key, .. } = self.clients[client];
        self.managers[core].see(NOW, key, &[(DISK, NEXT), (TAPE, self.other)]);
        for task_set in &mut self.managers[core].nexuses[key.0].task_sets {
            task_set.attentions = UnitAttentions::default();
        }
    }
}

/// Reservations and writes have an order, wherever in it each core and each initiator comes to the new unit.
#[test]
fn a_state_holds_for_both_units() {
    for seed in 1..seeds() {
        // RESERVE ends with the unit, as at a power-on.
        let asks = |dice: &mut Dice, client: usize| {
            let mut asks = anything(dice, client);
            asks.retain(|ask| !matches!(ask, Ask::Reserve | Ask::Release));
            asks
        };
        let mut cores = Cores::new(seed, asks);
        let (mut steps, mut shown, mut stores) = (0, 0, Vec::new());
        while cores.clients.iter().any(|client| !(client.calls.is_empty() && client.left.is_empty())) {
            cores.step();
            steps += 1;
            // All cores have it before anybody sees it.
            if stores.len() < 2 && steps % 15 == 0 {
                stores.push(cores.bring_next(stores.len()));
            } else if stores.len() == 2 && shown < CLIENTS && steps % 25 == 0 {
                cores.see_next(shown);
                shown += 1;
            }
            // The clock stands still.
            for manager in &mut cores.managers {
                manager.look_after_retired(NOW);
            }
            let mut busy = stores.iter().filter(|store| !store.held.borrow().is_empty());
            if steps % 3 == 0
                && let Some(store) = busy.next_back()
            {
                store.complete(0);
            }
            assert!(cores.clock < 200_000, "seed {seed}: somebody waits for ever");
        }
        cores.run();
        for manager in cores.managers.iter().filter(|_| stores.len() == 2) {
            let [old, new] = [cores.unit, NEXT].map(|unit| &manager.units[unit.row()]);
            assert_eq!((new.frozen, new.held.len(), new.storing), (0, 0, 0), "seed {seed}");
            assert_eq!(old.state, new.state, "seed {seed}");
        }
        check(&cores, seed);
    }
}
