//! Reading the tensors of a golden.  Plain SafeTensors: a length, a JSON header, the data.

use serde_json::Value;

use super::{GoldenError, binary};

/// The tensors of one golden.
pub struct Tensors {
    name: String,
    header: Value,
    data: &'static [u8],
}

impl Tensors {
    /// Opens a golden by name.
    pub fn open(name: &str) -> Result<Self, GoldenError> {
        let bytes = binary(name)?;
        let damaged = || GoldenError::Shape { name: name.into(), tensor: "header".into() };
        let length = bytes.first_chunk().map(|length| u64::from_le_bytes(*length) as usize).ok_or_else(damaged)?;
        let header = bytes.get(8..8 + length).ok_or_else(damaged)?;
        let json = |source| GoldenError::Json { name: name.into(), source };
        Ok(Self {
            name: name.into(),
            header: serde_json::from_slice(header).map_err(json)?,
            data: &bytes[8 + length..],
        })
    }

    /// Whether there is such a tensor.
    pub fn holds(&self, tensor: &str) -> bool {
        self.header.get(tensor).is_some()
    }

    /// The values of a tensor, whatever number type it has; all fit f64 exactly.
    pub fn values(&self, tensor: &str) -> Result<Vec<f64>, GoldenError> {
        let damaged = || GoldenError::Shape { name: self.name.clone(), tensor: tensor.into() };
        let entry = self.header.get(tensor).ok_or_else(damaged)?;
        let offset = |i: usize| entry["data_offsets"][i].as_u64().map(|at| at as usize).ok_or_else(damaged);
        let bytes = self.data.get(offset(0)?..offset(1)?).ok_or_else(damaged)?;
        Ok(match entry["dtype"].as_str() {
            Some("F64") => numbers(bytes, f64::from_le_bytes),
            Some("F32") => numbers(bytes, |b| f64::from(f32::from_le_bytes(b))),
            Some("I32") => numbers(bytes, |b| f64::from(i32::from_le_bytes(b))),
            Some("U8") => bytes.iter().map(|&b| f64::from(b)).collect(),
            _ => return Err(damaged()),
        })
    }
}

fn numbers<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    bytes.as_chunks::<N>().0.iter().map(|&chunk| number(chunk)).collect()
}
