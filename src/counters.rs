// SPDX-License-Identifier: GPL-2.0-or-later
//! Counters, said once: a list gives the name, meaning, unit and kind of each. From it come the plain numbers that a
//! core counts in, their sum over cores, their JSON, and the page that describes them (`docs/counters.md`).

use std::collections::BTreeMap;
use std::fmt;

/// How the counters of several cores make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterKind {
    /// It only rises. Those of all cores are added up.
    Counter,
    /// It rises and falls. Those of all cores are added up.
    Gauge,
    /// The most that a gauge has ever been. That of all cores is the largest.
    Maximum,
}

impl CounterKind {
    fn join(self, one: u64, other: u64) -> u64 {
        match self {
            Self::Counter | Self::Gauge => one.wrapping_add(other),
            Self::Maximum => one.max(other),
        }
    }
}

impl fmt::Display for CounterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Maximum => "maximum",
        })
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterUnit {
    /// Bytes.
    Bytes,
    /// Nanoseconds.
    Nanoseconds,
    /// Millions of bits per second.
    Megabits,
    /// SCSI commands.
    Commands,
    /// iSCSI PDUs.
    Pdus,
    /// Ethernet frames.
    Frames,
    /// TCP segments.
    Segments,
    /// TCP connections.
    Connections,
    /// Sessions of initiators.
    Sessions,
    /// Requests for memory.
    Requests,
    /// Turns of a loop.
    Turns,
    /// Something that is or is not.
    Flag,
    /// Known to a device's driver alone.
    Unknown,
}

impl fmt::Display for CounterUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes",
            Self::Nanoseconds => "ns",
            Self::Megabits => "Mbit/s",
            Self::Commands => "commands",
            Self::Pdus => "PDUs",
            Self::Frames => "frames",
            Self::Segments => "segments",
            Self::Connections => "connections",
            Self::Sessions => "sessions",
            Self::Requests => "requests",
            Self::Turns => "turns",
            Self::Flag => "0 or 1",
            Self::Unknown => "",
        })
    }
}

/// What is known of a counter beside its value.
#[derive(Debug, PartialEq, Eq)]
pub struct CounterDefinition {
    /// Its name, for machines.
    pub name: &'static str,
    /// What it tells, for people.
    pub help: &'static str,
    /// How those of several cores make one.
    pub kind: CounterKind,
    /// What is counted.
    pub unit: CounterUnit,
    /// The head of its column where people are shown a table; nothing where it has none.
    pub heading: &'static str,
}

/// A place in the status, as `jq` takes it, whose counters are there.
pub struct CounterPlace {
    /// The place.
    pub path: &'static str,
    /// Of what they are.
    pub what: &'static str,
    /// The lists of them.
    pub lists: &'static [&'static [CounterDefinition]],
}

/// A counter with its value.
pub type Counted = (&'static CounterDefinition, u64);

/// A list of counters, and their values.
pub trait CounterSet: Sized {
    /// The list.
    const LIST: &'static [CounterDefinition];

    /// The values, in the order of the list.
    fn values(&self) -> Vec<u64>;

    /// The same, to be changed.
    fn values_mut(&mut self) -> Vec<&mut u64>;

    /// Each counter with its value.
    fn counted(&self) -> impl Iterator<Item = Counted> {
        Self::LIST.iter().zip(self.values())
    }

    /// Adds what another core has counted.
    fn add(&mut self, other: &Self) {
        let all = Self::LIST.iter().zip(self.values_mut()).zip(other.values());
        all.for_each(|((definition, value), other)| *value = definition.kind.join(*value, other));
    }
}

/// The values by their names. Those of one name, from several cores, make one.
pub fn by_name(counted: impl IntoIterator<Item = Counted>) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for (definition, value) in counted {
        let entry = all.entry(definition.name.to_owned());
        entry.and_modify(|sum| *sum = definition.kind.join(*sum, value)).or_insert(value);
    }
    all
}

/// Defines a [`CounterSet`]: a struct whose fields are the counters, by the names that they are told by, with what they
/// tell as documentation, and kind and unit in the place of a type. The heading of a column may follow.
macro_rules! counter_set {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $set:ident {
            $($(#[doc = $help:literal])+ $name:ident: $kind:ident of $unit:ident $(as $heading:literal)?,)+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        $visibility struct $set {
            $($(#[doc = $help])+ pub $name: u64,)+
        }

        impl $crate::counters::CounterSet for $set {
            const LIST: &'static [$crate::counters::CounterDefinition] = &[$(
                $crate::counters::CounterDefinition {
                    name: stringify!($name),
                    help: concat!($($help),+).trim_ascii(),
                    kind: $crate::counters::CounterKind::$kind,
                    unit: $crate::counters::CounterUnit::$unit,
                    heading: concat!($($heading)?),
                },
            )+];

            fn values(&self) -> Vec<u64> {
                vec![$(self.$name),+]
            }

            fn values_mut(&mut self) -> Vec<&mut u64> {
                vec![$(&mut self.$name),+]
            }
        }
    };
}
pub(crate) use counter_set;

#[cfg(test)]
mod tests {
    use super::*;

    counter_set! {
        /// What a test counts.
        struct TestCounters {
            /// Rises, and
            /// has two lines.
            risen: Counter of Frames as "RISEN",
            /// Rises and falls.
            held_bytes: Gauge of Bytes,
            /// The most of that.
            held_max_bytes: Maximum of Bytes,
        }
    }

    const ONE: TestCounters = TestCounters { risen: 1, held_bytes: 20, held_max_bytes: 300 };
    const TWO: TestCounters = TestCounters { risen: 4, held_bytes: 50, held_max_bytes: 200 };
    const BOTH: TestCounters = TestCounters { risen: 5, held_bytes: 70, held_max_bytes: 300 };

    #[test]
    fn a_list_knows_what_its_struct_says() {
        let [risen, held, most] = TestCounters::LIST else { panic!("three counters") };
        assert_eq!((risen.name, risen.help, risen.heading), ("risen", "Rises, and has two lines.", "RISEN"));
        assert_eq!((held.kind, held.unit, held.heading), (CounterKind::Gauge, CounterUnit::Bytes, ""));
        assert_eq!(ONE.counted().last(), Some((most, 300)));
    }

    #[test]
    fn cores_make_one_by_the_kind_of_each_counter() {
        let mut sum = ONE;
        sum.add(&TWO);
        assert_eq!(sum, BOTH);
        assert_eq!(by_name(ONE.counted().chain(TWO.counted())), by_name(BOTH.counted()));
    }

    #[test]
    fn json_has_the_names_of_the_list_and_takes_fewer_and_more() {
        let json = serde_json::to_value(ONE).unwrap();
        assert_eq!(json, serde_json::to_value(by_name(ONE.counted())).unwrap());
        assert_eq!(serde_json::from_value::<TestCounters>(json).unwrap(), ONE);
        let other = serde_json::json!({ "risen": 1, "later": 9 });
        let known = TestCounters { risen: 1, ..TestCounters::default() };
        assert_eq!(serde_json::from_value::<TestCounters>(other).unwrap(), known);
    }
}
