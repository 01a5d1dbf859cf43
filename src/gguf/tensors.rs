//! The tensor infos of a file, and whether their data lies as it must.

use std::collections::HashSet;

use super::cursor::{Cursor, Stop};
use super::error::GgufError;
use super::ggml_type::GgmlType;
use super::limits;
use super::peculiarity::{Peculiarities, PeculiarityKind};

/// Fewest bytes of an info: length and one byte of a name, no dimension, a type, an offset.
pub(super) const INFO_BYTES_MIN: u64 = 8 + 1 + 4 + 4 + 8;

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Dimensions, the contiguous one first.
    pub dims: Vec<u64>,
    /// Its type.
    pub ggml_type: GgmlType,
    /// Offset of its data from the start of the data section.
    pub offset: u64,
    /// Bytes of its data; `None` for a type that is not known.
    pub bytes: Option<u64>,
}

impl TensorInfo {
    /// The number of its elements.
    pub fn elements(&self) -> u64 {
        self.dims.iter().product()
    }

    fn is_known(&self) -> bool {
        self.bytes.is_some()
    }

    /// Reads `count` infos.
    pub(super) fn parse_all(
        cursor: &mut Cursor<'_>,
        count: u64,
        alignment: u64,
        odd: &mut Peculiarities,
    ) -> Result<Vec<TensorInfo>, Stop> {
        let room = cursor.room_for(count, INFO_BYTES_MIN);
        let mut tensors = Vec::with_capacity(room);
        let mut names = HashSet::with_capacity(room);
        for index in 0..count {
            let offset = cursor.offset();
            let name = parse_name(cursor, index, odd)?;
            if !names.insert(name) {
                return Err(GgufError::TensorTwice { path: cursor.path.into(), name: name.into(), offset }.into());
            }
            tensors.push(TensorInfo::parse(cursor, name, alignment, odd)?);
        }
        Ok(tensors)
    }

    fn parse(cursor: &mut Cursor<'_>, name: &str, alignment: u64, odd: &mut Peculiarities) -> Result<TensorInfo, Stop> {
        let dims_at = cursor.offset();
        let dims = parse_dims(cursor, name)?;
        let type_at = cursor.offset();
        let ggml_type = GgmlType(cursor.u32(|| format!("type of tensor `{name}`"))?);
        let offset_at = cursor.offset();
        let offset = cursor.u64(|| format!("data offset of tensor `{name}`"))?;
        let (path, name) = (|| cursor.path.into(), name.to_string());
        if dims.contains(&0) {
            odd.note(PeculiarityKind::EmptyTensor, &name, dims_at);
        }
        match ggml_type.block() {
            None if ggml_type.is_removed() => odd.note(PeculiarityKind::RemovedType, &name, type_at),
            None => odd.note(PeculiarityKind::UnknownType, &name, type_at),
            Some(block) => {
                let (want, found) = (block.values, dims.first().copied().unwrap_or(1));
                if found % want != 0 {
                    let offset = dims_at;
                    return Err(GgufError::TensorRow { path: path(), name, offset, ggml_type, want, found }.into());
                }
            }
        }
        let bytes = ggml_type.bytes_of(&dims);
        if bytes.is_none() && ggml_type.block().is_some() {
            return Err(GgufError::TensorElements { path: path(), name, offset: dims_at, dims }.into());
        }
        if offset % alignment != 0 {
            let (want, found, offset) = (alignment, offset, offset_at);
            return Err(GgufError::TensorMisaligned { path: path(), name, offset, want, found }.into());
        }
        Ok(TensorInfo { name, dims, ggml_type, offset, bytes })
    }
}

fn parse_name<'a>(cursor: &mut Cursor<'a>, index: u64, odd: &mut Peculiarities) -> Result<&'a str, Stop> {
    let offset = cursor.offset();
    let bytes = cursor.string(limits::NAME_BYTES_MAX, || format!("name of tensor {index}"))?;
    if bytes.is_empty() {
        return Err(GgufError::TensorNameEmpty { path: cursor.path.into(), index, offset }.into());
    }
    let Ok(name) = std::str::from_utf8(bytes) else {
        let (path, found) = (cursor.path.into(), bytes.escape_ascii().to_string());
        return Err(GgufError::TensorNameNotUtf8 { path, index, offset, found }.into());
    };
    if bytes.len() as u64 == limits::NAME_BYTES_MAX {
        odd.note(PeculiarityKind::NameLength, name, offset);
    }
    Ok(name)
}

/// The dimensions; their product, without those that are 0, is at most [`limits::ELEMENTS_MAX`].
fn parse_dims(cursor: &mut Cursor<'_>, name: &str) -> Result<Vec<u64>, Stop> {
    let offset = cursor.offset();
    let count = cursor.u32(|| format!("dimensions of tensor `{name}`"))?;
    if count > limits::DIMS_MAX {
        let (path, field) = (cursor.path.into(), format!("dimensions of tensor `{name}`"));
        let (found, max) = (count.into(), limits::DIMS_MAX.into());
        return Err(GgufError::GgufLimit { path, field, offset, found, max }.into());
    }
    let mut dims = Vec::with_capacity(count as usize);
    for dim in 0..count {
        dims.push(cursor.u64(|| format!("dimension {dim} of tensor `{name}`"))?);
    }
    let product = dims.iter().try_fold(1u64, |product, dim| product.checked_mul((*dim).max(1)));
    if product.is_none_or(|product| product > limits::ELEMENTS_MAX) {
        return Err(GgufError::TensorElements { path: cursor.path.into(), name: name.into(), offset, dims }.into());
    }
    Ok(dims)
}

/// Where the data lies: what the checks of placement need beside the tensors.
pub(super) struct DataSection<'a> {
    pub(super) path: &'a std::path::Path,
    pub(super) alignment: u64,
    pub(super) data_offset: u64,
    pub(super) file_bytes: Option<u64>,
}

impl DataSection<'_> {
    /// Checks that no two tensors overlap and that all lie in the file; notes what ggml does not accept.
    pub(super) fn check(&self, tensors: &[TensorInfo], odd: &mut Peculiarities) -> Result<(), GgufError> {
        let mut order: Vec<&TensorInfo> = tensors.iter().collect();
        order.sort_by_key(|tensor| tensor.offset);
        if let Some((first, _)) = tensors.iter().zip(&order).find(|(a, b)| a.name != b.name) {
            odd.note(PeculiarityKind::Reordered, &first.name, self.data_offset.saturating_add(first.offset));
        }
        let (mut previous, mut covered): (Option<&TensorInfo>, u64) = (None, 0);
        for tensor in order {
            let start = tensor.offset;
            if let Some(other) = previous.filter(|_| start < covered && tensor.bytes != Some(0)) {
                let (path, name, other) = (self.path.into(), tensor.name.clone(), other.name.clone());
                return Err(GgufError::TensorsOverlap { path, name, start, other, other_end: covered });
            }
            let is_measured = previous.is_none_or(TensorInfo::is_known);
            if is_measured && start > align_up(covered, self.alignment) {
                odd.note(PeculiarityKind::Gap, &tensor.name, self.data_offset.saturating_add(covered));
            }
            let end = self.end_of(tensor)?;
            if tensor.bytes != Some(0) {
                (previous, covered) = (Some(tensor), end.max(covered));
            }
        }
        self.check_end(previous, covered, odd);
        Ok(())
    }

    /// The end of a tensor's data, from the start of the section; of an unknown type only the start is known.
    fn end_of(&self, tensor: &TensorInfo) -> Result<u64, GgufError> {
        let end = tensor.offset.saturating_add(tensor.bytes.unwrap_or(0));
        let file_end = self.data_offset.saturating_add(end);
        let found_bytes = self.file_bytes.unwrap_or(u64::MAX - 1);
        if file_end > found_bytes {
            let (path, name) = (self.path.into(), tensor.name.clone());
            return Err(GgufError::TensorPastEnd { path, name, end: file_end, found_bytes });
        }
        Ok(end)
    }

    fn check_end(&self, last: Option<&TensorInfo>, covered: u64, odd: &mut Peculiarities) {
        let Some(file_bytes) = self.file_bytes.filter(|_| last.is_none_or(TensorInfo::is_known)) else { return };
        let end = self.data_offset.saturating_add(covered);
        let padded = self.data_offset.saturating_add(align_up(covered, self.alignment));
        let name = last.map_or("data", |tensor| tensor.name.as_str());
        if file_bytes > padded {
            odd.note(PeculiarityKind::TrailingBytes, name, padded);
        } else if file_bytes < padded && last.is_some() {
            odd.note(PeculiarityKind::EndNotPadded, name, end);
        }
    }
}

/// The first multiple of `alignment` that is not below `offset`; the last representable number where there is none.
pub(super) fn align_up(offset: u64, alignment: u64) -> u64 {
    offset.checked_next_multiple_of(alignment).unwrap_or(u64::MAX)
}
