//! A packed matrix: its words, its scales, and the codec that says what they mean.

use burn::tensor::{Int, Tensor};
use burn_cubecl::tensor::CubeTensor;

use super::codec::{BLOCK, Codec};
use super::launch::dims;

/// A packed matrix on the device.
#[derive(Debug, Clone)]
pub struct Matrix {
    /// `[rows, words of a row]`: 16-byte pieces.
    pub words: Tensor<2, Int>,
    /// What the codec keeps apart, for all rows together; for codecs without scales any tensor, which is not read.
    pub scales: Tensor<1, Int>,
    /// What they mean.
    pub codec: Codec,
}

impl Matrix {
    /// A matrix of a codec without scales.
    pub fn new(words: Tensor<2, Int>, codec: Codec) -> Self {
        assert!(!codec.has_scales(), "{codec:?} has scales");
        let [rows, width] = words.dims();
        Self { scales: words.clone().reshape([rows * width]), words, codec }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.words.dims()[0]
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> u64 {
        let [rows, width] = self.words.dims();
        let scales = if self.codec.has_scales() { self.scales.dims()[0] } else { 0 };
        4 * (rows * width + scales) as u64
    }
}

/// The matrix of a launch.
pub struct MatrixArg<'a> {
    /// `[rows, words of a row]`.
    pub words: &'a CubeTensor,
    /// See [`Matrix::scales`].
    pub scales: &'a CubeTensor,
    /// What they mean.
    pub codec: Codec,
}

impl MatrixArg<'_> {
    /// Checks that rows hold `columns` weights, and that there are scales for all; the number of rows.
    ///
    /// # Panics
    /// If not.
    pub(super) fn check(&self, columns: usize) -> usize {
        let [rows, words] = dims(self.words);
        assert!(columns.is_multiple_of(BLOCK), "matrix: rows of {columns} weights are not whole blocks");
        assert_eq!(words, self.codec.row_words(columns), "matrix: words of a row of {columns} weights");
        if self.codec.has_scales() {
            let [scales] = dims(self.scales);
            assert!(scales >= self.codec.scale_words(rows * columns / BLOCK), "matrix: scales");
        }
        rows
    }
}
