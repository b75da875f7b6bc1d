// SPDX-License-Identifier: GPL-2.0-or-later
//! How an input becomes another one: changed in the ways in which inputs are usually wrong, and made shorter.

use crate::ports::memory::Dice;

/// Longest input.
const LEN_MAX: usize = 4096;

/// What a target makes of its input, so that most changes leave that whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InputShape {
    /// Bytes.
    Plain,
    /// Pieces: a kind, a length, and so many bytes.
    Pieces,
    /// Pieces without a kind, and with a length of two bytes, big-endian.
    Long,
}

/// A piece of an input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct InputPiece {
    pub(super) kind: u8,
    pub(super) data: Vec<u8>,
}

impl InputShape {
    /// The pieces of an input; of the last one what is there.
    pub(super) fn split(self, mut input: &[u8]) -> Vec<InputPiece> {
        let mut pieces = Vec::new();
        while let (&[first, second, ref rest @ ..], true) = (input, self != Self::Plain) {
            let (kind, len) = match self {
                Self::Long => (0, usize::from(u16::from_be_bytes([first, second]))),
                _ => (first, second.into()),
            };
            let (data, next) = rest.split_at(len.min(rest.len()));
            pieces.push(InputPiece { kind, data: data.to_vec() });
            input = next;
        }
        if self == Self::Plain {
            pieces.push(InputPiece { kind: 0, data: input.to_vec() });
        }
        pieces
    }

    /// The input that has these pieces, which are cut to the longest that a piece can be.
    pub(super) fn join(self, pieces: &[InputPiece]) -> Vec<u8> {
        let mut input = Vec::new();
        for InputPiece { kind, data } in pieces {
            let len = match self {
                Self::Plain => data.len(),
                Self::Pieces => {
                    let len = u8::try_from(data.len()).unwrap_or(u8::MAX);
                    input.extend([*kind, len]);
                    len.into()
                }
                Self::Long => {
                    let len = u16::try_from(data.len()).unwrap_or(u16::MAX);
                    input.extend(len.to_be_bytes());
                    len.into()
                }
            };
            input.extend(&data[..len]);
        }
        input
    }
}

/// A number from 0 to `last`.
pub(super) fn place(dice: &mut Dice, last: usize) -> usize {
    usize::try_from(dice.below(last as u64 + 1)).expect("short")
}

/// Changes an input a few times, with the help of others.
pub(super) fn change(input: &mut Vec<u8>, shape: InputShape, corpus: &[Vec<u8>], dice: &mut Dice) {
    for _ in 0..1 + dice.below(6) {
        let other = &corpus[place(dice, corpus.len() - 1)];
        if shape == InputShape::Plain || dice.below(8) == 0 {
            change_bytes(input, other, dice);
        } else {
            let mut pieces = shape.split(input);
            change_pieces(&mut pieces, &shape.split(other), dice);
            *input = shape.join(&pieces);
        }
        input.truncate(LEN_MAX);
    }
}

fn change_pieces(pieces: &mut Vec<InputPiece>, others: &[InputPiece], dice: &mut Dice) {
    let at = place(dice, pieces.len().saturating_sub(1));
    let other = others.get(place(dice, others.len().saturating_sub(1))).cloned().unwrap_or_default();
    match (dice.below(10), pieces.len()) {
        (0, 1..) => _ = pieces.remove(at),
        (1, 1..) => {
            let twin = pieces[at].clone();
            pieces.insert(place(dice, pieces.len()), twin);
        }
        (2, 1..) => {
            let to = place(dice, pieces.len() - 1);
            pieces.swap(at, to);
        }
        (3, 1..) => pieces[at].kind ^= 1 << dice.below(8),
        (4, 1..) => pieces[at].kind = other.kind,
        (5.., 1..) => change_bytes(&mut pieces[at].data, &other.data, dice),
        _ => pieces.insert(place(dice, pieces.len()), other),
    }
}

fn change_bytes(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    let at = place(dice, bytes.len());
    let byte = dice.roll().to_le_bytes()[0];
    let edge = [0, 1, 0x7f, 0x80, 0xff][usize::from(byte) % 5];
    match dice.below(10) {
        0 if at < bytes.len() => bytes[at] ^= 1 << (byte & 7),
        1 if at < bytes.len() => bytes[at] = byte,
        2 if at < bytes.len() => bytes[at] = edge,
        3 if at < bytes.len() => bytes[at] = bytes[at].wrapping_add(byte % 9).wrapping_sub(4),
        4 => {
            // The whole of a number of two or four bytes.
            let end = (at + [2, 4][usize::from(byte & 1)]).min(bytes.len());
            bytes[at..end].fill(edge);
        }
        5 => bytes.insert(at, byte),
        6 => {
            let end = (at + 1 + usize::from(byte & 15)).min(bytes.len());
            bytes.drain(at..end);
        }
        7 => {
            let end = (at + usize::from(byte)).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            bytes.extend(piece);
        }
        8 => bytes.truncate(at),
        _ => {
            let from = place(dice, other.len());
            bytes.truncate(at);
            bytes.extend(&other[from..]);
        }
    }
}

/// Leaves out what can be left out: halves first, then smaller and smaller runs, as long as what is left does `still`
/// what it is kept for.
pub(super) fn shorten<T: Clone>(mut items: Vec<T>, mut still: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut run = items.len().div_ceil(2);
    while run > 0 {
        let mut at = 0;
        while at < items.len() {
            let mut without = items.clone();
            without.drain(at..(at + run).min(items.len()));
            if still(&without) {
                items = without;
            } else {
                at += run;
            }
        }
        run /= 2;
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_the_sum_of_its_pieces() {
        let input = [7, 2, 1, 2, 9, 0, 8, 1, 3];
        let pieces = InputShape::Pieces.split(&input);
        assert_eq!(pieces.iter().map(|piece| piece.kind).collect::<Vec<_>>(), [7, 9, 8]);
        assert_eq!(InputShape::Pieces.join(&pieces), input);
        let frames = [0, 2, 1, 2, 0, 0, 0, 1, 3];
        assert_eq!(InputShape::Long.split(&frames).len(), 3);
        assert_eq!(InputShape::Long.join(&InputShape::Long.split(&frames)), frames);
        assert_eq!(InputShape::Plain.join(&InputShape::Plain.split(&input)), input);
        // A piece that ends early is one of what is there.
        assert_eq!(InputShape::Pieces.split(&[1, 200, 5])[0].data, [5]);
    }

    #[test]
    fn what_is_not_needed_is_left_out() {
        let all: Vec<u32> = (0..1000).collect();
        let kept = shorten(all, |some| some.contains(&17) && some.contains(&900));
        assert_eq!(kept, [17, 900]);
    }
}
