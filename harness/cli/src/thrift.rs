//! Writes structures in Thrift's compact protocol, as much of it as Parquet's metadata needs; see `parquet_file` for the
//! source. Refuses reading.

/// Type numbers of fields and of elements of lists.
pub(crate) const I32: u8 = 5;
const I64: u8 = 6;
pub(crate) const BINARY: u8 = 8;
const LIST: u8 = 9;
pub(crate) const STRUCT: u8 = 12;

/// A structure that is being written; fields go in by rising id.
#[derive(Default)]
pub(crate) struct Struct {
    bytes: Vec<u8>,
    last: u8,
}

impl Struct {
    /// A field's head: the distance of ids, which is below 16 in everything Parquet defines, and the type.
    fn head(&mut self, id: u8, kind: u8) {
        debug_assert!(id > self.last && id - self.last < 16, "field {id} after {}", self.last);
        self.bytes.push((id - self.last) << 4 | kind);
        self.last = id;
    }

    /// A 32-bit number or an enum.
    pub(crate) fn i32(&mut self, id: u8, value: i32) {
        self.head(id, I32);
        self.bytes.extend(i32(value));
    }

    /// A 64-bit number.
    pub(crate) fn i64(&mut self, id: u8, value: i64) {
        self.head(id, I64);
        varint(&mut self.bytes, zigzag(value));
    }

    /// A text or bytes.
    pub(crate) fn binary(&mut self, id: u8, value: &[u8]) {
        self.head(id, BINARY);
        self.bytes.extend(binary(value));
    }

    /// A structure.
    pub(crate) fn nested(&mut self, id: u8, value: Struct) {
        self.head(id, STRUCT);
        self.bytes.extend(value.end());
    }

    /// A list of elements that are written already: by [`i32()`], [`binary`] or [`Struct::end`].
    pub(crate) fn list(&mut self, id: u8, kind: u8, elements: &[Vec<u8>]) {
        self.head(id, LIST);
        if elements.len() < 15 {
            self.bytes.push((elements.len() as u8) << 4 | kind);
        } else {
            self.bytes.push(0xf0 | kind);
            varint(&mut self.bytes, elements.len() as u64);
        }
        self.bytes.extend(elements.iter().flatten());
    }

    /// The bytes of the structure.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.bytes.push(0);
        self.bytes
    }
}

/// A number as an element of a list.
pub(crate) fn i32(value: i32) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint(&mut bytes, zigzag(value.into()));
    bytes
}

/// A text as an element of a list.
pub(crate) fn binary(value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint(&mut bytes, value.len() as u64);
    bytes.extend(value);
    bytes
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
pub(crate) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Numbers of small magnitude become small: 0, -1, 1, -2, … as 0, 1, 2, 3, …
fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example values of the protocol's specification.
    #[test]
    fn numbers_are_written_as_specified() {
        let mut out = Vec::new();
        varint(&mut out, 50_399);
        assert_eq!(out, [0xdf, 0x89, 0x03]);
        assert_eq!([0, -1, 1, -2, 2].map(zigzag), [0, 1, 2, 3, 4]);
        assert_eq!((zigzag(i64::MAX), zigzag(i64::MIN)), (u64::MAX - 1, u64::MAX));
    }

    #[test]
    fn long_lists_tell_their_length_apart() {
        let mut short = Struct::default();
        short.list(3, I32, &vec![i32(1); 14]);
        assert_eq!(short.bytes[..2], [0x39, 0xe5]);
        let mut long = Struct::default();
        long.i64(2, -1);
        long.list(3, I32, &vec![i32(1); 200]);
        assert_eq!(long.bytes[..5], [0x26, 1, 0x19, 0xf5, 0xc8]);
    }
}
