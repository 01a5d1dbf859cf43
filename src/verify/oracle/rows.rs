//! Rows of values, one for each position, and the one way a matrix is applied to them.

use rayon::prelude::*;

use super::real::Real;

/// Rows of a matrix whose products are held at once: bounds what [`linear`] needs beside its result.
const BLOCK_ROWS: usize = 4096;
/// Positions from which on [`linear`] sums them together.
const TOGETHER_MIN: usize = 8;

/// A row of `width` values for each position.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows<F> {
    /// Values of a row, above 0.
    pub width: usize,
    /// The rows, one after the other.
    pub values: Vec<F>,
}

impl<F: Real> Rows<F> {
    /// `count` rows of zeros.
    pub fn zeros(width: usize, count: usize) -> Self {
        Rows { width, values: vec![F::zero(); width * count] }
    }

    /// A row made for each position 0, 1, …, on all cores; all must have `width` values.
    pub fn each(width: usize, count: usize, row: impl Fn(usize) -> Vec<F> + Send + Sync) -> Self {
        let rows: Vec<Vec<F>> = (0..count).into_par_iter().map(row).collect();
        assert!(rows.iter().all(|row| row.len() == width), "a row is not {width} wide");
        Rows { width, values: rows.concat() }
    }

    /// Number of rows.
    pub fn count(&self) -> usize {
        self.values.len() / self.width
    }

    /// One row.
    pub fn row(&self, index: usize) -> &[F] {
        &self.values[index * self.width..][..self.width]
    }

    /// One row, to be written.
    pub fn row_mut(&mut self, index: usize) -> &mut [F] {
        &mut self.values[index * self.width..][..self.width]
    }

    /// All rows in order.
    pub fn iter(&self) -> impl Iterator<Item = &[F]> {
        self.values.chunks_exact(self.width)
    }

    /// The rows at `indices`, in that order.
    pub fn select(&self, indices: &[usize]) -> Self {
        Rows { width: self.width, values: indices.iter().flat_map(|&index| self.row(index)).copied().collect() }
    }

    /// The values `columns` of each row.
    pub fn columns(&self, columns: std::ops::Range<usize>) -> Self {
        Rows { width: columns.len(), values: self.iter().flat_map(|row| &row[columns.clone()]).copied().collect() }
    }

    /// `factor · self + other`, element by element.
    pub fn scaled_plus(&self, factor: f64, other: &Self) -> Self {
        assert_eq!((self.width, self.values.len()), (other.width, other.values.len()));
        let factor = F::from_f64(factor);
        let values = self.values.iter().zip(&other.values).map(|(&x, &y)| factor * x + y).collect();
        Rows { width: self.width, values }
    }

    /// The same rows in another float type, rounded to nearest.
    pub fn to<G: Real>(&self) -> Rows<G> {
        Rows { width: self.width, values: self.values.iter().map(|x| G::from_f64(x.to_f64())).collect() }
    }
}

/// `y = W · x` for each row x: `y[o] = Σ_c W[o][c] · x[c]`, summed in the order of c.
///
/// `weight(o)` makes row o of `W`, `[x.width]`; it is called once for each of `width` rows, so that no whole matrix
/// is ever decoded.
pub fn linear<F: Real>(x: &Rows<F>, width: usize, weight: impl Fn(usize) -> Vec<F> + Send + Sync) -> Rows<F> {
    let count = x.count();
    let columns: Vec<Vec<F>> = (0..x.width).map(|c| x.iter().map(|row| row[c]).collect()).collect();
    let product = |o: usize| {
        let weights = weight(o);
        assert_eq!(weights.len(), x.width, "row {o} of the matrix");
        if count < TOGETHER_MIN {
            return x.iter().map(|x| dot(&weights, x)).collect();
        }
        // The same sums, each in the same order, but advancing together: several times as fast.
        let mut sums = vec![F::zero(); count];
        for (&w, column) in weights.iter().zip(&columns) {
            for (sum, &x) in sums.iter_mut().zip(column) {
                *sum += w * x;
            }
        }
        sums
    };
    let mut y = Rows::zeros(width, count);
    for first in (0..width).step_by(BLOCK_ROWS) {
        let products: Vec<Vec<F>> = (first..width.min(first + BLOCK_ROWS)).into_par_iter().map(product).collect();
        for (p, row) in y.values.chunks_exact_mut(width).enumerate() {
            for (to, sums) in row[first..].iter_mut().zip(&products) {
                *to = sums[p];
            }
        }
    }
    y
}

/// Adds `bias` to each row.
pub fn add_bias<F: Real>(y: &mut Rows<F>, bias: &[F]) {
    assert_eq!(bias.len(), y.width);
    for row in y.values.chunks_exact_mut(bias.len()) {
        for (y, &b) in row.iter_mut().zip(bias) {
            *y += b;
        }
    }
}

/// `Σ aᵢ · bᵢ` in order.
pub fn dot<F: Real>(a: &[F], b: &[F]) -> F {
    assert_eq!(a.len(), b.len());
    let mut sum = F::zero();
    for (&a, &b) in a.iter().zip(b) {
        sum += a * b;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_is_a_dot_product_for_each_row_and_position() {
        let x = Rows { width: 3, values: vec![1.0, 2.0, 3.0, -1.0, 0.5, 4.0] };
        let w = [[1.0, 0.0, 2.0], [0.5, -1.0, 0.25], [3.0, 3.0, 3.0], [0.0, 1.0, 0.0]];
        let y = linear(&x, 4, |o| w[o].to_vec());
        for (x, y) in x.iter().zip(y.iter()) {
            assert_eq!(y, w.map(|w| dot(&w, x)));
        }
    }

    #[test]
    fn few_positions_and_many_give_the_same_bits() {
        let value = |i: usize| (i as f32 * 0.7).sin();
        let many = Rows { width: 50, values: (0..50 * 20).map(value).collect() };
        let weight = |o: usize| (0..50).map(|c| value(o + 31 * c)).collect();
        let y = linear(&many, 9, weight);
        for p in 0..20 {
            assert_eq!(linear(&many.select(&[p]), 9, weight).values, y.row(p));
        }
    }

    #[test]
    fn linear_joins_its_blocks_in_order() {
        let x = Rows { width: 1, values: vec![1.0f32, 10.0] };
        let width = 2 * BLOCK_ROWS + 3;
        let y = linear(&x, width, |o| vec![o as f32]);
        assert!(y.row(0).iter().zip(0..).all(|(&y, o)| y == o as f32));
        assert!(y.row(1).iter().zip(0..).all(|(&y, o)| y == 10.0 * o as f32));
    }

    #[test]
    fn rows_are_cut_and_joined() {
        let x = Rows { width: 2, values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] };
        assert_eq!(x.select(&[2, 0]).values, [5.0, 6.0, 1.0, 2.0]);
        assert_eq!(x.columns(1..2), Rows { width: 1, values: vec![2.0, 4.0, 6.0] });
        assert_eq!(x.scaled_plus(2.0, &x).values, [3.0, 6.0, 9.0, 12.0, 15.0, 18.0]);
        assert_eq!(Rows::each(2, 3, |p| x.row(p).to_vec()), x);
        assert_eq!(x.to::<f32>().to::<f64>(), x);
    }
}
