// SPDX-License-Identifier: GPL-2.0-or-later
//! Random commands against a tape that is a list.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Act {
    Write(usize),
    Marks(usize),
    Read(usize),
    Locate(u8),
    Space(u8, i8),
    Erase,
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    let len = || prop_oneof![1usize..300, 3900usize..4200, 4096usize..70_000];
    prop_oneof![
        6 => len().prop_map(Act::Write),
        2 => (0usize..4).prop_map(Act::Marks),
        6 => len().prop_map(Act::Read),
        2 => any::<u8>().prop_map(Act::Locate),
        3 => (0u8..2, any::<i8>()).prop_map(|(code, count)| Act::Space(code, count / 16)),
        1 => Just(Act::Erase),
        1 => Just(Act::Restart),
    ]
}

/// `None` is a filemark.
#[derive(Default)]
struct ListedTape {
    objects: Vec<Option<Vec<u8>>>,
    at: usize,
}

impl ListedTape {
    /// How far SPACE comes, and what is left of its count.
    fn space(&mut self, marks: bool, count: i64) -> (u64, bool) {
        let mut left = count.unsigned_abs();
        while left > 0 {
            let next = match count > 0 {
                true => self.objects.get(self.at),
                false => self.at.checked_sub(1).map(|at| &self.objects[at]),
            };
            let Some(object) = next else { return (left, true) };
            self.at = if count > 0 { self.at + 1 } else { self.at - 1 };
            match (object.is_none(), marks) {
                (true, false) => return (left, true),
                (mark, marks) => left -= u64::from(mark == marks),
            }
        }
        (0, false)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_drive_is_a_list_of_records_and_filemarks(acts in prop::collection::vec(act(), 1..60)) {
        let mut rig = TapeRig::with(cartridge(4 << 20, CartridgeUse::Data, false));
        let mut model = ListedTape::default();
        for (number, act) in acts.into_iter().enumerate() {
            match act {
                Act::Write(len) => {
                    let bytes = record(number as u64, len);
                    let ended = rig.write_record(&bytes);
                    if ended.outcome.status == Status::Good {
                        model.objects.truncate(model.at);
                        model.objects.push(Some(bytes));
                        model.at += 1;
                    }
                }
                Act::Marks(count) => {
                    rig.filemarks(count);
                    if count > 0 {
                        model.objects.truncate(model.at);
                        model.objects.extend(vec![None; count]);
                        model.at += count;
                    }
                }
                Act::Read(len) => {
                    let ended = rig.read_record(len);
                    match model.objects.get(model.at) {
                        None => prop_assert_eq!(ended.why(), (8, asc::END_OF_DATA_DETECTED)),
                        Some(None) => prop_assert_eq!(ended.why(), (0, asc::FILEMARK_DETECTED)),
                        Some(Some(bytes)) => {
                            prop_assert!(ended.data == bytes[..len.min(bytes.len())]);
                            let difference = (len as u64).wrapping_sub(bytes.len() as u64).cast_signed();
                            let told = ended.outcome.sense.and_then(|sense| sense.information);
                            prop_assert_eq!(told.map_or(0, u64::cast_signed), difference);
                        }
                    }
                    model.at = model.objects.len().min(model.at + 1);
                }
                Act::Locate(to) => {
                    let found = usize::from(to) <= model.objects.len();
                    model.at = model.objects.len().min(to.into());
                    prop_assert_eq!(rig.locate(to.into()).outcome.status == Status::Good, found);
                }
                Act::Space(code, count) => {
                    let (left, stopped) = model.space(code == 1, count.into());
                    let ended = rig.space(code, count.into());
                    let told = ended.outcome.sense.and_then(|sense| sense.information);
                    prop_assert_eq!(told, stopped.then_some(left));
                }
                Act::Erase => {
                    rig.none(&[0x19, 0, 0, 0, 0, 0]).good();
                    model.objects.truncate(model.at);
                }
                Act::Restart => {
                    rig.filemarks(0);
                    rig = rig.restarted();
                    // Else nothing is written over.
                    rig.rewind();
                    model.at = 0;
                }
            }
            let marks = model.objects[..model.at].iter().filter(|object| object.is_none()).count();
            prop_assert_eq!(rig.position(), (0, model.at as u64, marks as u64));
        }
    }
}
