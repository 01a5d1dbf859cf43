//! SafeTensors files for readers to meet: honest ones, twisted in a few places.
//!
//! Most twists leave a file that some reader might accept, because those are the ones on which two readers can differ.

use proptest::prelude::*;
use proptest::sample::Index;

use super::tiny::HONEST;

/// A file's bytes, shown as text.
#[derive(Clone)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// A header's entry as text, so that it can say anything.
#[derive(Debug, Clone)]
struct Entry {
    name: String,
    dtype: String,
    dims: Vec<String>,
    offsets: Vec<String>,
    form: Form,
}

/// How an entry is spelt.
#[derive(Debug, Clone, Copy)]
enum Form {
    Object,
    ExtraKey,
    RepeatedKey,
    MissingKey,
    Array,
    Null,
}

/// One thing that is not as a writer would have it.
#[derive(Debug, Clone)]
enum Twist {
    Name(usize, String),
    Dtype(usize, String),
    Dims(usize, Vec<String>),
    Dim(usize, String),
    Start(usize, String),
    End(usize, String),
    Offsets(usize, Vec<String>),
    Form(usize, Form),
    Repeat(usize),
    Drop(usize),
    Metadata(String),
    Before(String),
    After(String),
    Data(Vec<u8>),
    CutData(usize),
    Length(u64),
}

const DTYPES: [(&str, usize); 8] =
    [("U8", 1), ("BF16", 2), ("F32", 4), ("F64", 8), ("BOOL", 1), ("F8_E8M0", 1), ("I64", 8), ("F16", 2)];

/// A file of up to four tensors with up to three twists.
pub(crate) fn file() -> impl Strategy<Value = Bytes> {
    (prop::collection::vec(tensor(), 0..4), prop::collection::vec(twist(), 0..4), any::<bool>()).prop_map(
        |(tensors, twists, backwards)| {
            let (mut entries, data_bytes) = laid_out(&tensors);
            if backwards {
                entries.reverse();
            }
            let mut file = File { entries, data: vec![7; data_bytes], ..File::default() };
            twists.into_iter().for_each(|twist| file.apply(twist));
            Bytes(file.bytes())
        },
    )
}

/// An honest file with up to three bytes of its header changed, most of them for one that JSON gives a meaning.
pub(crate) fn edited() -> impl Strategy<Value = Bytes> {
    let byte = prop_oneof![4 => prop::sample::select(b"{}[],:\"\\ 019-.eE_\n".to_vec()), 1 => any::<u8>()];
    prop::collection::vec((any::<Index>(), byte), 1..4).prop_map(|edits| {
        let mut file = HONEST.original.clone();
        let header_end = 8 + u64::from_le_bytes(file[..8].try_into().expect("eight bytes")) as usize;
        edits.into_iter().for_each(|(at, byte)| file[at.index(header_end)] = byte);
        Bytes(file)
    })
}

/// A number of a header: small ones, the ends of the integer types, and what is no whole number.
pub(crate) fn number() -> impl Strategy<Value = String> {
    let extremes = [u64::MAX, u64::MAX - 1, 1 << 63, i64::MAX as u64, 1 << 62, 1 << 61, 1 << 32, u64::from(u32::MAX)];
    let texts = ["-1", "-0", "1.0", "1e2", "1e999", "18446744073709551616", "007", "null", "\"1\"", "[]", "true"];
    prop_oneof![
        4 => (0..40u64).prop_map(|n| n.to_string()),
        4 => prop::sample::select(extremes.to_vec()).prop_map(|n| n.to_string()),
        1 => any::<u64>().prop_map(|n| n.to_string()),
        1 => prop::sample::select(texts.to_vec()).prop_map(String::from),
    ]
}

/// A name: short ones that collide, names of the format and of a model, anything.
pub(crate) fn name() -> impl Strategy<Value = String> {
    let known = ["", "a", "b", "__metadata__", "norm.scale", "model.norm.weight", "block.0.attn.sinks", "é\u{0}\"\\"];
    prop_oneof![3 => prop::sample::select(known.to_vec()).prop_map(String::from), 1 => any::<String>()]
}

fn tensor() -> impl Strategy<Value = (String, usize, Vec<u64>)> {
    (name(), 0..DTYPES.len(), prop::collection::vec(0..4u64, 0..4))
}

fn dtype() -> impl Strategy<Value = String> {
    let names = ["U8", "BF16", "F32", "bf16", "F4", "F8_E4M3FNUZ", "C64", "U16", ""];
    prop_oneof![
        5 => prop::sample::select(names.to_vec()).prop_map(|name| format!("\"{name}\"")),
        1 => prop::sample::select(vec!["null", "1", "[]", "{\"U8\":null}"]).prop_map(String::from),
    ]
}

fn twist() -> impl Strategy<Value = Twist> {
    let index = 0..4usize;
    let numbers = || prop::collection::vec(number(), 0..4);
    let forms = [Form::ExtraKey, Form::RepeatedKey, Form::MissingKey, Form::Array, Form::Null];
    let metadata = ["{}", "{\"format\":\"pt\"}", "null", "{\"a\":1}", "[]", "{\"a\":\"b\",\"a\":\"c\"}"];
    let space = ["", " ", "\n", "\t \r", "\u{0}", "{", "}", ",", "[[[[", "\u{feff}"];
    let index_and = |text: BoxedStrategy<String>| (index.clone(), text);
    prop_oneof![
        index_and(name().boxed()).prop_map(|(i, name)| Twist::Name(i, name)),
        index_and(dtype().boxed()).prop_map(|(i, dtype)| Twist::Dtype(i, dtype)),
        (index.clone(), numbers()).prop_map(|(i, dims)| Twist::Dims(i, dims)),
        index_and(number().boxed()).prop_map(|(i, dim)| Twist::Dim(i, dim)),
        index_and(number().boxed()).prop_map(|(i, start)| Twist::Start(i, start)),
        index_and(number().boxed()).prop_map(|(i, end)| Twist::End(i, end)),
        (index.clone(), numbers()).prop_map(|(i, offsets)| Twist::Offsets(i, offsets)),
        (index.clone(), prop::sample::select(forms.to_vec())).prop_map(|(i, form)| Twist::Form(i, form)),
        index.clone().prop_map(Twist::Repeat),
        index.clone().prop_map(Twist::Drop),
        prop::sample::select(metadata.to_vec()).prop_map(|text| Twist::Metadata(text.into())),
        prop::sample::select(space.to_vec()).prop_map(|text| Twist::Before(text.into())),
        prop::sample::select(space.to_vec()).prop_map(|text| Twist::After(text.into())),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Twist::Data),
        (0..20usize).prop_map(Twist::CutData),
        prop_oneof![0..300u64, any::<u64>()].prop_map(Twist::Length),
    ]
}

/// Entries whose ranges follow each other, and the bytes they cover.
fn laid_out(tensors: &[(String, usize, Vec<u64>)]) -> (Vec<Entry>, usize) {
    let mut end = 0;
    let mut entry = |(name, dtype, shape): &(String, usize, Vec<u64>)| {
        let (dtype, element_bytes) = DTYPES[*dtype];
        let start = end;
        end += shape.iter().product::<u64>() as usize * element_bytes;
        Entry {
            name: name.clone(),
            dtype: format!("\"{dtype}\""),
            dims: shape.iter().map(u64::to_string).collect(),
            offsets: vec![start.to_string(), end.to_string()],
            form: Form::Object,
        }
    };
    let entries = tensors.iter().map(&mut entry).collect();
    (entries, end)
}

#[derive(Debug, Default)]
struct File {
    entries: Vec<Entry>,
    metadata: Vec<String>,
    before: String,
    after: String,
    data: Vec<u8>,
    length: Option<u64>,
}

impl File {
    fn apply(&mut self, twist: Twist) {
        match twist {
            Twist::Name(i, name) => self.with_entry(i, |entry| entry.name = name),
            Twist::Dtype(i, dtype) => self.with_entry(i, |entry| entry.dtype = dtype),
            Twist::Dims(i, dims) => self.with_entry(i, |entry| entry.dims = dims),
            Twist::Dim(i, dim) => self.with_entry(i, |entry| entry.dims.push(dim)),
            Twist::Start(i, start) => self.with_entry(i, |entry| entry.offsets[0] = start),
            Twist::End(i, end) => self.with_entry(i, |entry| entry.offsets[1] = end),
            Twist::Offsets(i, offsets) => self.with_entry(i, |entry| entry.offsets = offsets),
            Twist::Form(i, form) => self.with_entry(i, |entry| entry.form = form),
            Twist::Repeat(i) => self.entries.extend(self.entries.get(i).cloned()),
            Twist::Drop(i) => self.entries.truncate(i),
            Twist::Metadata(text) => self.metadata.push(text),
            Twist::Before(text) => self.before = text,
            Twist::After(text) => self.after = text,
            Twist::Data(bytes) => self.data.extend(bytes),
            Twist::CutData(count) => self.data.truncate(self.data.len().saturating_sub(count)),
            Twist::Length(length) => self.length = Some(length),
        }
    }

    fn with_entry(&mut self, index: usize, change: impl FnOnce(&mut Entry)) {
        // Two offsets are what the twists of one of them rely on.
        if let Some(entry) = self.entries.get_mut(index).filter(|entry| entry.offsets.len() == 2) {
            change(entry);
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let metadata = self.metadata.iter().map(|text| format!("\"__metadata__\":{text}"));
        let entries: Vec<String> = metadata.chain(self.entries.iter().map(Entry::text)).collect();
        let header = format!("{}{{{}}}{}", self.before, entries.join(","), self.after);
        let length = self.length.unwrap_or(header.len() as u64);
        [&length.to_le_bytes(), header.as_bytes(), &self.data].concat()
    }
}

impl Entry {
    fn text(&self) -> String {
        let (name, dtype) = (serde_json::Value::from(self.name.as_str()), &self.dtype);
        let (dims, offsets) = (self.dims.join(","), self.offsets.join(","));
        let value = match self.form {
            Form::Object => format!(r#"{{"dtype":{dtype},"shape":[{dims}],"data_offsets":[{offsets}]}}"#),
            Form::ExtraKey => format!(r#"{{"dtype":{dtype},"shape":[{dims}],"data_offsets":[{offsets}],"more":0}}"#),
            Form::RepeatedKey => {
                format!(r#"{{"dtype":{dtype},"shape":[],"shape":[{dims}],"data_offsets":[{offsets}]}}"#)
            }
            Form::MissingKey => format!(r#"{{"dtype":{dtype},"data_offsets":[{offsets}]}}"#),
            Form::Array => format!("[{dtype},[{dims}],[{offsets}]]"),
            Form::Null => "null".into(),
        };
        format!("{name}:{value}")
    }
}
