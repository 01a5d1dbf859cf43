//! Metadata values, as views of the header's bytes: an array of 200 000 strings costs nothing until it is walked.

use std::fmt;

/// The type of a metadata value, by the format's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::FromRepr)]
#[repr(u32)]
#[allow(missing_docs)] // the format's own names
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    /// Bytes of a value, where all have the same.
    pub fn bytes(self) -> Option<u64> {
        match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => Some(1),
            ValueType::U16 | ValueType::I16 => Some(2),
            ValueType::U32 | ValueType::I32 | ValueType::F32 => Some(4),
            ValueType::U64 | ValueType::I64 | ValueType::F64 => Some(8),
            ValueType::String | ValueType::Array => None,
        }
    }

    /// Fewest bytes of a value: a string has at least its length, an array its type and its count.
    pub(super) fn bytes_min(self) -> u64 {
        match self {
            ValueType::String => 8,
            ValueType::Array => 12,
            _ => self.bytes().expect("every other type has a size"),
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ValueType::U8 => "u8",
            ValueType::I8 => "i8",
            ValueType::U16 => "u16",
            ValueType::I16 => "i16",
            ValueType::U32 => "u32",
            ValueType::I32 => "i32",
            ValueType::F32 => "f32",
            ValueType::Bool => "bool",
            ValueType::String => "string",
            ValueType::Array => "array",
            ValueType::U64 => "u64",
            ValueType::I64 => "i64",
            ValueType::F64 => "f64",
        })
    }
}

/// One metadata value.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)] // the format's own names
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    /// Bytes that should be UTF-8; a file may hold others.
    String(&'a [u8]),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl<'a> Value<'a> {
    /// Its type.
    pub fn value_type(self) -> ValueType {
        match self {
            Value::U8(_) => ValueType::U8,
            Value::I8(_) => ValueType::I8,
            Value::U16(_) => ValueType::U16,
            Value::I16(_) => ValueType::I16,
            Value::U32(_) => ValueType::U32,
            Value::I32(_) => ValueType::I32,
            Value::F32(_) => ValueType::F32,
            Value::Bool(_) => ValueType::Bool,
            Value::String(_) => ValueType::String,
            Value::Array(_) => ValueType::Array,
            Value::U64(_) => ValueType::U64,
            Value::I64(_) => ValueType::I64,
            Value::F64(_) => ValueType::F64,
        }
    }

    /// An integer of any width and sign that is not negative.
    pub fn as_u64(self) -> Option<u64> {
        match self {
            Value::U8(n) => Some(n.into()),
            Value::U16(n) => Some(n.into()),
            Value::U32(n) => Some(n.into()),
            Value::U64(n) => Some(n),
            other => other.as_i64().and_then(|n| u64::try_from(n).ok()),
        }
    }

    /// An integer of any width and sign that fits.
    pub fn as_i64(self) -> Option<i64> {
        match self {
            Value::I8(n) => Some(n.into()),
            Value::I16(n) => Some(n.into()),
            Value::I32(n) => Some(n.into()),
            Value::I64(n) => Some(n),
            Value::U8(n) => Some(n.into()),
            Value::U16(n) => Some(n.into()),
            Value::U32(n) => Some(n.into()),
            Value::U64(n) => i64::try_from(n).ok(),
            _ => None,
        }
    }

    /// A floating-point number of either width.
    pub fn as_f64(self) -> Option<f64> {
        match self {
            Value::F32(x) => Some(x.into()),
            Value::F64(x) => Some(x),
            _ => None,
        }
    }

    /// A boolean.
    pub fn as_bool(self) -> Option<bool> {
        match self {
            Value::Bool(b) => Some(b),
            _ => None,
        }
    }

    /// A string that is UTF-8.
    pub fn as_str(self) -> Option<&'a str> {
        match self {
            Value::String(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// An array.
    pub fn as_array(self) -> Option<Array<'a>> {
        match self {
            Value::Array(array) => Some(array),
            _ => None,
        }
    }

    /// Reads a value from the front of bytes that the index has already walked; also the bytes behind it.
    pub(super) fn read(kind: ValueType, bytes: &'a [u8]) -> (Value<'a>, &'a [u8]) {
        match kind {
            ValueType::U8 => fixed(bytes, |b| Value::U8(u8::from_le_bytes(b))),
            ValueType::I8 => fixed(bytes, |b| Value::I8(i8::from_le_bytes(b))),
            ValueType::U16 => fixed(bytes, |b| Value::U16(u16::from_le_bytes(b))),
            ValueType::I16 => fixed(bytes, |b| Value::I16(i16::from_le_bytes(b))),
            ValueType::U32 => fixed(bytes, |b| Value::U32(u32::from_le_bytes(b))),
            ValueType::I32 => fixed(bytes, |b| Value::I32(i32::from_le_bytes(b))),
            ValueType::F32 => fixed(bytes, |b| Value::F32(f32::from_le_bytes(b))),
            ValueType::Bool => fixed(bytes, |[b]: [u8; 1]| Value::Bool(b == 1)),
            ValueType::U64 => fixed(bytes, |b| Value::U64(u64::from_le_bytes(b))),
            ValueType::I64 => fixed(bytes, |b| Value::I64(i64::from_le_bytes(b))),
            ValueType::F64 => fixed(bytes, |b| Value::F64(f64::from_le_bytes(b))),
            ValueType::String => {
                let (length, rest) = u64_of(bytes);
                let (text, rest) = rest.split_at(length as usize);
                (Value::String(text), rest)
            }
            ValueType::Array => {
                let (id, rest) = fixed(bytes, u32::from_le_bytes);
                let element = ValueType::from_repr(id).expect("the index refused other types");
                let (count, rest) = u64_of(rest);
                let behind = behind(element, count, rest);
                let elements = &rest[..rest.len() - behind.len()];
                (Value::Array(Array { element, count, elements }), behind)
            }
        }
    }
}

/// Bytes of a string that a message shows.
const SHOWN_BYTES: usize = 64;

/// For a person: long strings are cut, an array shows its type and length.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::U8(n) => write!(f, "{n}"),
            Value::I8(n) => write!(f, "{n}"),
            Value::U16(n) => write!(f, "{n}"),
            Value::I16(n) => write!(f, "{n}"),
            Value::U32(n) => write!(f, "{n}"),
            Value::I32(n) => write!(f, "{n}"),
            Value::F32(x) => write!(f, "{x:?}"),
            Value::Bool(b) => write!(f, "{b}"),
            Value::String(text) if text.len() <= SHOWN_BYTES => write!(f, "{:?}", String::from_utf8_lossy(text)),
            Value::String(text) => {
                let shown = String::from_utf8_lossy(&text[..SHOWN_BYTES]);
                write!(f, "{shown:?}… ({} bytes)", text.len())
            }
            Value::Array(array) => write!(f, "{array:?}"),
            Value::U64(n) => write!(f, "{n}"),
            Value::I64(n) => write!(f, "{n}"),
            Value::F64(x) => write!(f, "{x:?}"),
        }
    }
}

fn fixed<const N: usize, T>(bytes: &[u8], read: impl FnOnce([u8; N]) -> T) -> (T, &[u8]) {
    let (first, rest) = bytes.split_first_chunk().expect("the index walked these bytes");
    (read(*first), rest)
}

fn u64_of(bytes: &[u8]) -> (u64, &[u8]) {
    fixed(bytes, u64::from_le_bytes)
}

/// What lies behind `count` elements.
fn behind(element: ValueType, count: u64, bytes: &[u8]) -> &[u8] {
    match element.bytes() {
        Some(size) => &bytes[(count * size) as usize..],
        None => (0..count).fold(bytes, |bytes, _| Value::read(element, bytes).1),
    }
}

/// An array of a metadata value: a view, walked when it is asked.
#[derive(Clone, Copy, PartialEq)]
pub struct Array<'a> {
    element: ValueType,
    count: u64,
    elements: &'a [u8],
}

impl<'a> Array<'a> {
    /// The type of its elements.
    pub fn element_type(self) -> ValueType {
        self.element
    }

    /// The number of its elements.
    pub fn len(self) -> usize {
        self.count as usize
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.count == 0
    }

    /// The bytes of its elements, back to back, strings with their lengths.
    pub fn bytes(self) -> &'a [u8] {
        self.elements
    }

    /// Its elements, in order.
    pub fn iter(self) -> impl Iterator<Item = Value<'a>> {
        let mut rest = self.elements;
        (0..self.count).map(move |_| {
            let (value, behind) = Value::read(self.element, rest);
            rest = behind;
            value
        })
    }

    /// Its elements as bytes; `None` if they are no strings.
    pub fn strings(self) -> Option<impl Iterator<Item = &'a [u8]>> {
        let string = |value: Value<'a>| match value {
            Value::String(bytes) => Some(bytes),
            _ => None,
        };
        (self.element == ValueType::String).then(|| self.iter().filter_map(string))
    }

    /// Its elements as integers; `None` if one is none.
    pub fn integers(self) -> Option<Vec<i64>> {
        self.iter().map(Value::as_i64).collect()
    }
}

impl fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}; {}]", self.element, self.count)
    }
}
