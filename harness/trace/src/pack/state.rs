//! What a packer knows in the middle of a recording, as bytes: so that packing can be taken up again where it was when the
//! packer was killed. Read back by the program that wrote it: no format for others, checked by its length and a checksum
//! where it is stored.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash};

/// A value that can be saved.
pub(crate) trait State: Sized {
    /// Appends it.
    fn save(&self, out: &mut Vec<u8>);
    /// Takes it from the front; `None` when it is not there in whole.
    fn load(from: &mut &[u8]) -> Option<Self>;
}

/// Makes a struct's state that of its fields, in order.
macro_rules! state {
    ($name:ty { $($field:ident),* $(,)? }) => {
        impl $crate::pack::state::State for $name {
            fn save(&self, out: &mut Vec<u8>) {
                $($crate::pack::state::State::save(&self.$field, out);)*
            }

            fn load(from: &mut &[u8]) -> Option<Self> {
                $(let $field = $crate::pack::state::State::load(from)?;)*
                Some(Self { $($field),* })
            }
        }
    };
}
pub(crate) use state;

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl State for $number {
            #[inline]
            fn save(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            #[inline]
            fn load(from: &mut &[u8]) -> Option<Self> {
                let (bytes, rest) = from.split_first_chunk()?;
                *from = rest;
                Some(Self::from_le_bytes(*bytes))
            }
        }
    )*};
}
numbers! { u8 u32 u64 i64 u128 }

impl State for bool {
    fn save(&self, out: &mut Vec<u8>) {
        u8::from(*self).save(out);
    }

    fn load(from: &mut &[u8]) -> Option<Self> {
        Some(u8::load(from)? != 0)
    }
}

impl<T: State> State for Box<T> {
    fn save(&self, out: &mut Vec<u8>) {
        (**self).save(out);
    }

    fn load(from: &mut &[u8]) -> Option<Self> {
        Some(Self::new(T::load(from)?))
    }
}

impl<T: State> State for Option<T> {
    fn save(&self, out: &mut Vec<u8>) {
        self.is_some().save(out);
        if let Some(it) = self {
            it.save(out);
        }
    }

    fn load(from: &mut &[u8]) -> Option<Self> {
        Some(if bool::load(from)? { Some(T::load(from)?) } else { None })
    }
}

fn save_all<'a, T: State + 'a>(len: usize, all: impl Iterator<Item = &'a T>, out: &mut Vec<u8>) {
    (len as u64).save(out);
    all.for_each(|it| it.save(out));
}

fn load_all<T: State, C: FromIterator<T>>(from: &mut &[u8]) -> Option<C> {
    let len = u64::load(from)?;
    (0..len).map(|_| T::load(from)).collect()
}

impl<T: State> State for Vec<T> {
    fn save(&self, out: &mut Vec<u8>) {
        save_all(self.len(), self.iter(), out);
    }

    fn load(from: &mut &[u8]) -> Option<Self> {
        load_all(from)
    }
}

impl<T: State> State for VecDeque<T> {
    fn save(&self, out: &mut Vec<u8>) {
        save_all(self.len(), self.iter(), out);
    }

    fn load(from: &mut &[u8]) -> Option<Self> {
        load_all(from)
    }
}

impl<K: State + Eq + Hash, V: State, S: BuildHasher + Default> State for HashMap<K, V, S> {
    fn save(&self, out: &mut Vec<u8>) {
        (self.len() as u64).save(out);
        for (key, value) in self {
            key.save(out);
            value.save(out);
        }
    }

    fn load(from: &mut &[u8]) -> Option<Self> {
        load_all::<(K, V), Self>(from)
    }
}

impl<A: State, B: State> State for (A, B) {
    fn save(&self, out: &mut Vec<u8>) {
        self.0.save(out);
        self.1.save(out);
    }

    fn load(from: &mut &[u8]) -> Option<Self> {
        Some((A::load(from)?, B::load(from)?))
    }
}

impl<T: State, const N: usize> State for [T; N] {
    fn save(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|it| it.save(out));
    }

    fn load(from: &mut &[u8]) -> Option<Self> {
        let all: Vec<T> = (0..N).map_while(|_| T::load(from)).collect();
        all.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_comes_back_and_what_is_cut_short_does_not() {
        type All = (Vec<(u32, Option<u64>)>, (HashMap<u64, [i64; 2]>, (VecDeque<bool>, Box<u128>)));
        let map = HashMap::from([(7, [-1, i64::MAX]), (u64::MAX, [0, 3])]);
        let all: All = (vec![(1, None), (2, Some(3))], (map, (VecDeque::from([true, false]), Box::new(1 << 100))));
        let mut bytes = Vec::new();
        all.save(&mut bytes);
        let mut from = &bytes[..];
        assert_eq!(All::load(&mut from).as_ref(), Some(&all));
        assert!(from.is_empty());
        for cut in 0..bytes.len() {
            assert!(All::load(&mut &bytes[..cut]).is_none(), "{cut}");
        }
    }
}
