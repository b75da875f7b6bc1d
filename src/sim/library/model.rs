// SPDX-License-Identifier: GPL-2.0-or-later
//! What the commands of a library do, one after the other.

use super::{LibraryCommand, LibraryShape};

/// Name of a command, and of the record that it writes.
pub(in crate::sim) type RequestId = u32;

/// Bytes that READ asks for: more than any record has.
pub(super) const READ_LEN: u32 = 12_288;

/// What a command answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LibraryAnswer {
    Good,
    /// GOOD with the record of that request.
    Record(RequestId),
    /// GOOD at this object, behind so many filemarks.
    Position(u64, u64),
    /// What is in each place.
    Inventory(Vec<Option<usize>>),
    /// Stopped behind a filemark, or before one in reverse; INFORMATION.
    Filemark(u32),
    /// Stopped at the end of the data; INFORMATION, if there is any.
    End(Option<u32>),
    /// Stopped at the beginning.
    Beginning(u32),
    NoMedium,
    SourceEmpty,
    DestinationFull,
    /// After a start nothing is written over.
    NotPlaced,
}

/// An object on a tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Object {
    Record(RequestId),
    Filemark,
}

/// A cartridge.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct ModelTape {
    objects: Vec<Object>,
    /// So many of them are on stable storage.
    stable: usize,
}

impl ModelTape {
    fn sync(&mut self) {
        self.stable = self.objects.len();
    }

    /// Whoever writes there ends the tape there first, for good.
    fn cut(&mut self, at: usize) {
        if at < self.objects.len() {
            self.objects.truncate(at);
            self.sync();
        }
    }
}

/// A drive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct ModelDrive {
    /// Objects in front of the head.
    at: usize,
    /// The cartridge was unloaded by an initiator.
    out: bool,
    /// Something was asked of the cartridge since it came.
    mounted: bool,
    /// What is in it was there at the last start, and nobody has placed the head since.
    started: bool,
}

/// A library. Numbers of cartridges are those of [`LibraryShape`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Library {
    cartridges: Vec<ModelTape>,
    places: Vec<Option<usize>>,
    drives: Vec<ModelDrive>,
    /// What was where before this request, whose outcome may not be kept yet.
    before: Option<(RequestId, Vec<Option<usize>>)>,
}

/// What a command may lead to; without an answer if it was ended on its way.
pub(super) type Effect = (Library, Option<LibraryAnswer>);

impl Library {
    pub(super) fn new(shape: &LibraryShape) -> Self {
        let mut places = vec![None; shape.places()];
        for cartridge in 0..shape.cartridges {
            places[shape.drives + cartridge] = Some(cartridge);
        }
        let cartridges = vec![ModelTape::default(); shape.cartridges];
        Self { cartridges, places, drives: vec![ModelDrive::default(); shape.drives], before: None }
    }

    /// What is where, and on the cartridges.
    pub(super) fn shows(&self, places: &[Option<usize>], tapes: &[Vec<Object>]) -> bool {
        let objects = self.cartridges.iter().map(|cartridge| &cartridge.objects);
        self.places == places && objects.eq(tapes)
    }

    /// What was where before the last movement, while it may not be kept.
    pub(super) fn before(&self) -> Option<&Vec<Option<usize>>> {
        self.before.as_ref().map(|(_, places)| places)
    }

    /// The initiator has heard of it: it is kept.
    pub(super) fn heard(&mut self, id: RequestId) {
        self.before.take_if(|(request, _)| *request == id);
    }

    /// All that may be there when the target starts again.
    pub(super) fn restarted(&self, in_order: bool) -> Vec<Self> {
        let mut next = self.clone();
        for (drive, place) in next.drives.iter_mut().zip(&self.places) {
            if let Some(cartridge) = place.filter(|_| in_order && drive.mounted) {
                next.cartridges[cartridge].sync();
            }
            *drive = ModelDrive { started: true, ..ModelDrive::default() };
        }
        let mut all = vec![next.clone()];
        if let Some((_, before)) = next.before.take() {
            all[0].before = None;
            next.places = before;
            all.push(next);
        }
        for cartridge in 0..self.cartridges.len() {
            let shorter = |library: &Self| {
                let ModelTape { objects, stable } = &library.cartridges[cartridge];
                let cut = |len| {
                    let mut library = library.clone();
                    library.cartridges[cartridge].objects.truncate(len);
                    library
                };
                (*stable..=objects.len()).map(cut).collect::<Vec<_>>()
            };
            all = all.iter().flat_map(shorter).collect();
        }
        all
    }

    /// What a command may lead to, `unit` being a drive, by its place, if it is one of a drive's.
    pub(super) fn after(&self, id: RequestId, drive: usize, command: LibraryCommand) -> Vec<Effect> {
        match command {
            LibraryCommand::Inventory => {
                vec![(self.clone(), Some(LibraryAnswer::Inventory(self.places.clone())))]
            }
            LibraryCommand::Move { from, to } => vec![match (self.places[from], self.places[to]) {
                (None, _) => (self.clone(), Some(LibraryAnswer::SourceEmpty)),
                (_, Some(_)) if from != to => (self.clone(), Some(LibraryAnswer::DestinationFull)),
                _ => self.moved(id, &[(from, to)]),
            }],
            LibraryCommand::Exchange([source, first, second]) => {
                vec![match (self.places[source], self.places[first], self.places[second]) {
                    (None, ..) | (_, None, _) => (self.clone(), Some(LibraryAnswer::SourceEmpty)),
                    (.., Some(_)) if second != source => (self.clone(), Some(LibraryAnswer::DestinationFull)),
                    _ => self.moved(id, &[(first, second), (source, first)]),
                }]
            }
            command => self.after_at_drive(id, drive, command),
        }
    }

    fn moved(&self, id: RequestId, moves: &[(usize, usize)]) -> Effect {
        let mut next = self.clone();
        let taken: Vec<_> = moves.iter().map(|&(from, _)| next.places[from].take()).collect();
        for (&(_, to), cartridge) in moves.iter().zip(taken) {
            next.places[to] = cartridge;
        }
        for place in 0..next.drives.len() {
            if next.places[place] == self.places[place] {
                continue;
            }
            let drive = std::mem::take(&mut next.drives[place]);
            if let Some(gone) = self.places[place].filter(|_| drive.mounted) {
                next.cartridges[gone].sync();
            }
        }
        next.before = Some((id, self.places.clone()));
        (next, Some(LibraryAnswer::Good))
    }

    fn after_at_drive(&self, id: RequestId, place: usize, command: LibraryCommand) -> Vec<Effect> {
        use LibraryCommand as C;
        let mut next = self.clone();
        let drive = &mut next.drives[place];
        let cartridge = self.places[place];
        let out = cartridge.is_none() || drive.out;
        let Some(tape) = cartridge.filter(|_| !out || command == C::Load) else {
            // An empty drive is unloaded already.
            let answer = if command == C::Unload { LibraryAnswer::Good } else { LibraryAnswer::NoMedium };
            return vec![(next, Some(answer))];
        };
        let tape = &mut next.cartridges[tape];
        drive.mounted |= !out;
        match command {
            C::Write { .. } | C::Filemarks { .. } | C::Erase => {
                let (object, count) = match command {
                    C::Write { .. } => (Object::Record(id), 1),
                    C::Filemarks { count, .. } => (Object::Filemark, count.into()),
                    _ => (Object::Filemark, 0),
                };
                let at = drive.at;
                let writes = count > 0 || command == C::Erase;
                if writes && drive.started && at == 0 && !tape.objects.is_empty() {
                    return vec![(next, Some(LibraryAnswer::NotPlaced))];
                }
                if writes {
                    tape.cut(at);
                }
                let cut = next.clone();
                let tape = &mut next.cartridges[cartridge.expect("it is there")];
                tape.objects.extend(std::iter::repeat_n(object, count));
                next.drives[place].at = at + count;
                let buffered = next.clone();
                let written = matches!(command, C::Write { .. } | C::Filemarks { immediate: true, .. });
                if !written {
                    next.cartridges[cartridge.expect("it is there")].sync();
                }
                return vec![(next, Some(LibraryAnswer::Good)), (cut, None), (buffered, None)];
            }
            C::Read => {
                let object = tape.objects.get(drive.at);
                drive.at += usize::from(object.is_some());
                let answer = match object {
                    Some(Object::Record(id)) => LibraryAnswer::Record(*id),
                    Some(Object::Filemark) => LibraryAnswer::Filemark(READ_LEN),
                    None => LibraryAnswer::End(Some(READ_LEN)),
                };
                return vec![(next, Some(answer))];
            }
            C::Position => {
                let marks = tape.objects[..drive.at].iter().filter(|object| **object == Object::Filemark);
                let answer = LibraryAnswer::Position(drive.at as u64, marks.count() as u64);
                return vec![(next, Some(answer))];
            }
            _ => {}
        }
        // All others bring what was written to stable storage. A cartridge that is out is not looked at.
        if !out {
            tape.sync();
        }
        drive.started = false;
        let objects = &tape.objects;
        let answer = match command {
            C::SpaceRecords(count) => space(objects, &mut drive.at, count, false),
            C::SpaceFilemarks(count) => space(objects, &mut drive.at, count, true),
            C::SpaceEnd => {
                drive.at = objects.len();
                LibraryAnswer::Good
            }
            C::Locate(to) => {
                drive.at = objects.len().min(to.into());
                if usize::from(to) > objects.len() { LibraryAnswer::End(None) } else { LibraryAnswer::Good }
            }
            C::Load | C::Rewind => {
                (drive.at, drive.out) = (0, false);
                LibraryAnswer::Good
            }
            C::Unload => {
                *drive = ModelDrive { out: true, ..ModelDrive::default() };
                LibraryAnswer::Good
            }
            other => unreachable!("{other:?} has ended"),
        };
        vec![(next, Some(answer))]
    }
}

/// SPACE over records, or over filemarks.
fn space(objects: &[Object], at: &mut usize, count: i8, marks: bool) -> LibraryAnswer {
    let mut left = u32::from(count.unsigned_abs());
    while left > 0 {
        let next = if count > 0 { Some(*at) } else { at.checked_sub(1) };
        let Some(next) = next else { return LibraryAnswer::Beginning(left) };
        let Some(object) = objects.get(next) else { return LibraryAnswer::End(Some(left)) };
        *at = if count > 0 { next + 1 } else { next };
        match (object, marks) {
            (Object::Filemark, false) => return LibraryAnswer::Filemark(left),
            (Object::Record(_), true) => {}
            _ => left -= 1,
        }
    }
    LibraryAnswer::Good
}
