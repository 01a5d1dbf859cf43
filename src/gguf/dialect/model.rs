//! A GGUF as the tensors of a gpt-oss model.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::path::Path;

use super::config;
use super::error::DialectError;
use super::names::{Dialect, NamedPart, RowMap, Slabs};
use super::stored::{Encoding, Reading, StoredPart, block_type};
use crate::checkpoint::{Layout, ModelConfig, NotExact, TensorId, WeightSource};
use crate::gguf::{Array, GgmlType, Gguf, GgufError, Located, Value, ValueType};
use crate::mapped::FileBytes;

/// What llama-quantize writes of an importance matrix, if it was given one.
const IMPORTANCE_KEY: &str = "quantize.imatrix.file";
/// Names shown in a message before "and N more".
const NAMES_SHOWN: usize = 8;
/// ggml's id of the type that Ollama's early files use for MXFP4.
const EARLY_MXFP4: GgmlType = GgmlType(4);
/// Special ids that a file may name, and what o200k_harmony has: the first is what llama.cpp's converter writes.
const SPECIAL_IDS: [(&str, &[u64]); 3] =
    [("bos_token_id", &[199_998]), ("eos_token_id", &[200_002]), ("padding_token_id", &[199_999])];
/// Rows of the embedding of every published model: files of other sizes have no special ids to compare.
const VOCAB_ROWS: usize = 201_088;

/// An open gpt-oss GGUF.
///
/// **Invariant:** every tensor the metadata calls for is there once, with dimensions that fit and a type whose values
/// are known, and nothing else is.
#[derive(Debug)]
pub struct GgufModel {
    gguf: Gguf,
    dialect: Dialect,
    config: ModelConfig,
    placement: HashMap<TensorId, Vec<Placed>>,
    warnings: Vec<String>,
}

/// Where some rows of a tensor are.
#[derive(Debug, Clone)]
struct Placed {
    name: String,
    rows: RowMap,
    encoding: Encoding,
    /// Which file, and where in it.
    file: usize,
    range: Range<usize>,
}

impl GgufModel {
    /// Opens a file; one of a split opens all.
    ///
    /// # Errors
    /// Any [`DialectError`].
    pub fn open(path: &Path) -> Result<GgufModel, DialectError> {
        GgufModel::new(Gguf::open(path)?)
    }

    /// Reads a whole file that is in memory; `path` is for messages.
    ///
    /// # Errors
    /// Any [`DialectError`].
    pub fn from_bytes(path: &Path, file: FileBytes) -> Result<GgufModel, DialectError> {
        GgufModel::new(Gguf::from_bytes(path, file)?)
    }

    /// Finds the model in an open file.
    ///
    /// # Errors
    /// Any [`DialectError`] but those about the index.
    pub fn new(gguf: Gguf) -> Result<GgufModel, DialectError> {
        let (path, metadata) = (gguf.path(), gguf.metadata());
        let dialect = config::dialect(path, metadata)?;
        let vocab = vocab_rows(&gguf, dialect)?;
        let mut warnings = Vec::new();
        let config = config::config(path, metadata, dialect, vocab, &mut warnings)?;
        let placement = Placing { gguf: &gguf, dialect, config: &config }.place()?;
        check_vocabulary(&gguf, vocab, &mut warnings)?;
        Ok(GgufModel { gguf, dialect, config, placement, warnings })
    }

    /// The file, with its index.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// Who wrote it.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// What a person should know although the model is usable.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The text of each token as the file has it, in the order of ids; `None` if it has none.
    pub fn tokens(&self) -> Option<impl Iterator<Item = &[u8]>> {
        self.gguf.metadata().get("tokenizer.ggml.tokens")?.as_array()?.strings()
    }

    /// The pairs of tokens that merge, as the file has them, in order; `None` if it has none.
    pub fn merges(&self) -> Option<impl Iterator<Item = &[u8]>> {
        self.gguf.metadata().get("tokenizer.ggml.merges")?.as_array()?.strings()
    }

    /// The kind of each token (llama.cpp's numbers: 1 text, 3 control, 5 unused); empty if the file has none.
    pub fn token_kinds(&self) -> Vec<i64> {
        let kinds = self.gguf.metadata().get("tokenizer.ggml.token_type").and_then(Value::as_array);
        kinds.and_then(|kinds| kinds.integers()).unwrap_or_default()
    }
}

impl WeightSource for GgufModel {
    fn path(&self) -> &Path {
        self.gguf.path()
    }

    fn layout(&self) -> Layout {
        Layout::Gguf
    }

    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn vocab_rows(&self) -> usize {
        self.config.vocab
    }

    fn segments(&self, tensor: TensorId) -> Vec<&[u8]> {
        self.parts(tensor).into_iter().map(|part| part.bytes).collect()
    }

    fn parts(&self, tensor: TensorId) -> Vec<StoredPart<'_>> {
        let placed = self.placement.get(&tensor).expect("an open GGUF holds every tensor of its config");
        let mut parts = Vec::with_capacity(placed.len());
        for Placed { name, rows, encoding, file, range } in placed {
            let bytes = &self.gguf.parts()[*file].file[range.clone()];
            parts.push(StoredPart { name, encoding: *encoding, rows: *rows, bytes });
        }
        parts
    }

    fn read(&self, tensor: TensorId, range: Range<usize>) -> Result<Cow<'_, [u8]>, NotExact> {
        let (path, config) = (self.path(), &self.config);
        Reading { path, config, tensor, parts: self.parts(tensor) }.bytes(range)
    }

    fn rounds_by_importance(&self) -> bool {
        self.gguf.metadata().get(IMPORTANCE_KEY).is_some()
    }

    fn place_of(&self, bytes: &[u8]) -> Option<(&FileBytes, Range<usize>)> {
        self.gguf.parts().iter().map(|part| &part.file).find_map(|file| Some((file, file.range_of(bytes)?)))
    }
}

/// Rows of the embedding, before anything else is known.
fn vocab_rows(gguf: &Gguf, dialect: Dialect) -> Result<usize, DialectError> {
    use crate::checkpoint::config::limits::VOCAB_MAX;
    let path = || gguf.path().to_path_buf();
    let name = "token_embd.weight";
    let Some(Located { info, .. }) = gguf.tensor(name) else {
        let key = format!("{}.block_count", dialect.architecture());
        let layers = gguf.metadata().get(&key).and_then(Value::as_u64).unwrap_or_default() as usize;
        return Err(DialectError::GgufTensorMissing { path: path(), key, layers, count: 1, names: name.into() });
    };
    match info.dims[..] {
        [_, rows] if (1..=VOCAB_MAX).contains(&rows) => Ok(rows as usize),
        _ => {
            let keys = format!("`{}.embedding_length`", dialect.architecture());
            let (want, found) = (format!("[embedding length, 1 to {VOCAB_MAX} tokens]"), info.dims.clone());
            Err(DialectError::GgufTensorDims { path: path(), name: name.into(), want, found, keys })
        }
    }
}

/// Tokens, if there are any, are as many as rows, and so are their kinds; special ids that are not o200k_harmony's are told.
fn check_vocabulary(gguf: &Gguf, vocab: usize, warnings: &mut Vec<String>) -> Result<(), DialectError> {
    let path = gguf.path();
    let array = |stem: &str, want: &str, is_wanted: fn(Array) -> bool| {
        let key = format!("tokenizer.ggml.{stem}");
        let Some(value) = gguf.metadata().get(&key) else { return Ok(None) };
        let found = value.as_array().filter(|array| is_wanted(*array));
        let wrong =
            || DialectError::GgufKeyValue { path: path.into(), key, want: want.into(), found: config::shown(value) };
        found.map(Some).ok_or_else(wrong)
    };
    let is_strings = |array: Array| array.element_type() == ValueType::String;
    let tokens = array("tokens", "an array of strings", is_strings)?;
    let kinds = array("token_type", "an array of integers", |array| array.integers().is_some())?;
    array("merges", "an array of strings", is_strings)?;
    match tokens {
        None => {
            warnings.push(format!("{}: no `tokenizer.ggml.tokens`: its vocabulary cannot be checked", path.display()))
        }
        Some(tokens) if tokens.len() != vocab => {
            return Err(DialectError::GgufTokenCount { path: path.into(), want: vocab, found: tokens.len() });
        }
        Some(_) => {}
    }
    if let Some(kinds) = kinds.filter(|kinds| kinds.len() != vocab) {
        let (path, key) = (path.into(), "tokenizer.ggml.token_type".into());
        let (want, found) = (format!("{vocab} kinds, one a token"), kinds.len().to_string());
        return Err(DialectError::GgufKeyValue { path, key, want, found });
    }
    for (stem, usual) in SPECIAL_IDS {
        let key = format!("tokenizer.ggml.{stem}");
        let Some(value) = gguf.metadata().get(&key) else { continue };
        let shown = config::shown(value);
        match value.as_u64() {
            Some(id) if id < vocab as u64 && (vocab != VOCAB_ROWS || usual.contains(&id)) => {}
            Some(id) if id < vocab as u64 => {
                warnings.push(format!("{}: metadata `{key}` is {id}, o200k_harmony has {}", path.display(), usual[0]));
            }
            _ => {
                let (path, want) = (path.into(), format!("a token id below {vocab}"));
                return Err(DialectError::GgufKeyValue { path, key, want, found: shown });
            }
        }
    }
    Ok(())
}

/// Finds the stored tensors of a model.
struct Placing<'a> {
    gguf: &'a Gguf,
    dialect: Dialect,
    config: &'a ModelConfig,
}

impl Placing<'_> {
    fn place(&self) -> Result<HashMap<TensorId, Vec<Placed>>, DialectError> {
        let files: HashMap<&str, usize> = (self.gguf.parts().iter().enumerate())
            .flat_map(|(file, part)| part.index.tensors.iter().map(move |info| (info.name.as_str(), file)))
            .collect();
        let mut placement = HashMap::new();
        let mut used: BTreeSet<String> = BTreeSet::new();
        // Counted, and only what is shown is kept: a header of some kilobytes can call for 70 000 tensors.
        let (mut missing, mut missing_count) = (Vec::new(), 0);
        for tensor in TensorId::each(self.config) {
            let form = self.form(tensor);
            let mut placed = Vec::new();
            for part in form {
                match self.gguf.tensor(&part.name) {
                    Some(located) => {
                        placed.push(self.placed(tensor, &part, located, files[part.name.as_str()])?);
                        used.insert(part.name);
                    }
                    // Scales are in the tensor of the codes, which was counted.
                    None if tensor.role.is_scales() => {}
                    None => {
                        missing_count += 1;
                        missing.extend((missing.len() < NAMES_SHOWN).then_some(part.name));
                    }
                }
            }
            if missing_count == 0 {
                placement.insert(tensor, placed);
            }
        }
        let (path, layers) = (self.gguf.path(), self.config.layers);
        if missing_count > 0 {
            let (key, names) = (format!("{}.block_count", self.dialect.architecture()), shown(&missing, missing_count));
            return Err(DialectError::GgufTensorMissing {
                path: path.into(),
                key,
                layers,
                count: missing_count,
                names,
            });
        }
        let unknown: Vec<String> =
            self.gguf.tensors().map(|t| t.info.name.clone()).filter(|name| !used.contains(name)).collect();
        if !unknown.is_empty() {
            let (count, names) = (unknown.len(), shown(&unknown[..unknown.len().min(NAMES_SHOWN)], unknown.len()));
            return Err(DialectError::GgufTensorUnknown { path: path.into(), layers, count, names });
        }
        self.refuse_early_overlap()?;
        Ok(placement)
    }

    /// The form in which the file stores a tensor: the first of which it has a name, else the dialect's usual one.
    fn form(&self, tensor: TensorId) -> Vec<NamedPart> {
        let mut forms = self.dialect.forms(tensor, self.config);
        let is_there = |form: &Vec<NamedPart>| form.iter().any(|part| self.gguf.tensor(&part.name).is_some());
        let chosen = forms.iter().position(is_there).unwrap_or(0);
        forms.swap_remove(chosen)
    }

    fn placed(&self, tensor: TensorId, part: &NamedPart, at: Located, file: usize) -> Result<Placed, DialectError> {
        self.check_dims(tensor, part, at)?;
        let encoding = self.encoding(tensor, at)?;
        let bytes = match encoding {
            Encoding::Mxfp4InOrder => at.bytes_as(GgmlType::MXFP4)?,
            Encoding::Ggml(_) => at.bytes()?,
        };
        let start = bytes.as_ptr() as usize - at.part.file.as_ptr() as usize;
        let range = start..start + bytes.len();
        Ok(Placed { name: part.name.clone(), rows: part.rows, encoding, file, range })
    }

    fn check_dims(&self, tensor: TensorId, part: &NamedPart, at: Located) -> Result<(), DialectError> {
        let slabs = Slabs::of(tensor, self.config);
        let mut want = Vec::new();
        want.extend(slabs.is_matrix().then_some(slabs.columns as u64));
        want.push(part.rows.count as u64);
        want.extend(tensor.role.is_of_an_expert().then_some(slabs.slabs as u64));
        // llama.cpp may write a vector as {n, 1}: trailing ones mean nothing.
        let mut found = at.info.dims.clone();
        while found.len() > want.len() && found.last() == Some(&1) {
            found.pop();
        }
        if found == want {
            return Ok(());
        }
        let start = self.dialect.architecture();
        let fields: BTreeSet<&str> = tensor.role.dims(self.config).into_iter().map(|(_, field)| field).collect();
        let keys = format!("`{start}.*` for {}", Vec::from_iter(fields).join(", "));
        let (path, name) = (self.gguf.path().into(), part.name.clone());
        let (want, found) = (format!("{want:?}"), at.info.dims.clone());
        Err(DialectError::GgufTensorDims { path, name, want, found, keys })
    }

    fn encoding(&self, tensor: TensorId, at: Located) -> Result<Encoding, DialectError> {
        let (path, name, ty) = (self.gguf.path().to_path_buf(), at.info.name.clone(), at.info.ggml_type);
        let is_expert_matrix = tensor.role.is_blocks() || tensor.role.is_scales();
        if ty == EARLY_MXFP4 && self.dialect == Dialect::Ollama && is_expert_matrix {
            return Ok(Encoding::Mxfp4InOrder);
        }
        if is_expert_matrix && ty != GgmlType::MXFP4 {
            return Err(DialectError::GgufUnpackedExperts { path, name, found: ty.to_string() });
        }
        if block_type(ty).is_none() {
            return Err(GgufError::TypeUnsupported { path, name, found: ty }.into());
        }
        let is_float = matches!(ty, GgmlType::F32 | GgmlType::F16 | GgmlType::BF16);
        match Slabs::of(tensor, self.config).is_matrix() {
            false if !is_float => {
                let (want, found) = ("F32, F16 or BF16".into(), ty.to_string());
                Err(DialectError::GgufTensorType { path, name, want, found })
            }
            _ => Ok(Encoding::Ggml(ty)),
        }
    }

    /// The index does not know how long a tensor of type 4 is, so it could not see that another begins inside it.
    fn refuse_early_overlap(&self) -> Result<(), DialectError> {
        for part in self.gguf.parts() {
            let starts: BTreeMap<u64, &str> =
                part.index.tensors.iter().map(|info| (info.offset, info.name.as_str())).collect();
            for info in part.index.tensors.iter().filter(|info| info.ggml_type == EARLY_MXFP4) {
                let end = info.offset + GgmlType::MXFP4.bytes_of(&info.dims).unwrap_or_default();
                if let Some((&start, name)) = starts.range(info.offset + 1..end).next() {
                    let (path, name, other) = (self.gguf.path().into(), name.to_string(), info.name.clone());
                    return Err(GgufError::TensorsOverlap { path, name, start, other, other_end: end }.into());
                }
            }
        }
        Ok(())
    }
}

/// The first of `count` names.
fn shown(names: &[String], count: usize) -> String {
    match count - names.len() {
        0 => names.join(", "),
        more => format!("{}, and {more} more", names.join(", ")),
    }
}
