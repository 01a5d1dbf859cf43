//! One launch and what it must leave in memory: the verdict of a kernel check.
//!
//! * A cell is exact (bits), near a truth in f64 within a budget, or open.
//! * A row's budget is [`NOISE_FACTOR`] times what computing the same reference in f32 does to it, never less than one rounding:
//!   the largest error of a row over its root mean square, of all rows, times the root mean square of the row at hand.
//! * Outputs are overwritten before their memory is freed, so that what a launch failed to write never looks right by chance.

use burn::tensor::{Int, Tensor};
use cubecl::future::block_on;

use super::half;
use super::inputs::{SENTINEL, natural};
use crate::device::{Compute, DeviceError};
use crate::kernels::codec::KvType;
use crate::verify::compare::stages::NOISE_FACTOR;
use crate::verify::oracle::Rows;

/// Half a step of f16's 11 bits, and its smallest value above zero.
const F16_ROUNDING: f64 = 1.0 / 2048.0;
const F16_SMALLEST: f64 = 1.0 / 16_777_216.0;

/// What a word of the output must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cell {
    /// These bits.
    Bits(u32),
    /// An f32 so far from the truth at most.
    Near(f64, f64),
    /// Anything: the operation promises nothing about it.
    Open,
}

/// Memory that must still hold the sentinel.
pub(super) const UNTOUCHED: Cell = Cell::Bits(SENTINEL.to_bits());

/// One output, and what it must be.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Want {
    /// Its name in reports.
    pub(super) what: &'static str,
    /// Words of a row.
    pub(super) width: usize,
    /// Every word.
    pub(super) cells: Vec<Cell>,
    /// How the device holds it.
    form: Form,
}

/// How the device holds an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A word a cell, in order.
    Natural,
    /// A word a cell, blocks of 32 swizzled.
    Swizzled,
    /// Two f16 a word; cells are f32.
    Halves,
}

impl Want {
    /// An output in its natural order.
    pub(super) fn new(what: &'static str, width: usize, cells: Vec<Cell>) -> Self {
        Self { what, width, cells, form: Form::Natural }
    }

    /// An output whose rows are swizzled.
    pub(super) fn swizzled(what: &'static str, width: usize, cells: Vec<Cell>) -> Self {
        Self { what, width, cells, form: Form::Swizzled }
    }

    /// A cache: of f32, or of f16, which rounds what is near and holds half a sentinel where it is untouched.
    pub(super) fn cache(what: &'static str, width: usize, cells: Vec<Cell>, kv: KvType) -> Self {
        if kv == KvType::F32 {
            return Self::new(what, width, cells);
        }
        let rounded = |(i, cell): (usize, Cell)| match cell {
            UNTOUCHED => Cell::Bits(half::widened((SENTINEL.to_bits() >> (i % 2 * 16)) as u16)),
            Cell::Near(x, budget) => Cell::Near(x, budget + x.abs() * F16_ROUNDING + F16_SMALLEST / 2.0),
            other => other,
        };
        let cells = cells.into_iter().enumerate().map(rounded).collect();
        Self { what, width, cells, form: Form::Halves }
    }

    /// A cache of f16, cell by cell as it must be.
    pub(super) fn halves(what: &'static str, width: usize, cells: Vec<Cell>) -> Self {
        Self { what, width, cells, form: Form::Halves }
    }

    /// What the device gave, a word for each cell.
    fn words_of(&self, found: &[u32]) -> Vec<u32> {
        match self.form {
            Form::Natural => found.to_vec(),
            Form::Swizzled => natural(found),
            Form::Halves => half::unpacked(found),
        }
    }
}

/// Cells near `truth`; `rounded` is the same reference computed in f32.
///
/// # Panics
/// If the truth or its f32 form is not finite, or their shapes differ.
pub(super) fn near(truth: &Rows<f64>, rounded: &Rows<f32>) -> Vec<Cell> {
    assert_eq!((truth.width, truth.values.len()), (rounded.width, rounded.values.len()), "one reference, twice");
    let root_mean_square = |row: &[f64]| (row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64).sqrt();
    let largest = |row: &mut dyn Iterator<Item = f64>| row.fold(0.0, |max: f64, x| max.max(x.abs()));
    let noise = truth.iter().zip(rounded.iter()).map(|(truth, rounded)| {
        assert!(truth.iter().all(|x| x.is_finite()) && rounded.iter().all(|x| x.is_finite()), "a finite reference");
        let error = largest(&mut truth.iter().zip(rounded).map(|(truth, &rounded)| truth - f64::from(rounded)));
        error / root_mean_square(truth).max(f64::MIN_POSITIVE)
    });
    let epsilon = f64::from(f32::EPSILON);
    let noise = noise.fold(epsilon, f64::max);
    let budget = |row: &[f64]| {
        let rounding = largest(&mut row.iter().copied()) * epsilon / 2.0;
        // Below the smallest normal f32 a device may flush.
        (NOISE_FACTOR * noise * root_mean_square(row)).max(rounding).max(f64::from(f32::MIN_POSITIVE))
    };
    truth.iter().flat_map(|row| row.iter().map(|&x| Cell::Near(x, budget(row))).collect::<Vec<_>>()).collect()
}

/// The cell of a value that must come out bit for bit, or flushed to zero where it is subnormal.
pub(super) fn exact(value: f64) -> Cell {
    let tiny = value != 0.0 && value.abs() < f64::from(f32::MIN_POSITIVE);
    if tiny { Cell::Near(value, value.abs()) } else { Cell::Bits((value as f32).to_bits()) }
}

/// An output on the device.
pub(super) enum Output {
    /// Of f32.
    Floats(Tensor<1>),
    /// Of words.
    Words(Tensor<1, Int>),
}

impl Output {
    /// A tensor of f32, flat.
    pub(super) fn floats<const D: usize>(tensor: Tensor<D>) -> Self {
        let count = tensor.dims().iter().product::<usize>();
        Output::Floats(tensor.reshape([count]))
    }

    /// A tensor of words, flat.
    pub(super) fn words<const D: usize>(tensor: Tensor<D, Int>) -> Self {
        let count = tensor.dims().iter().product::<usize>();
        Output::Words(tensor.reshape([count]))
    }

    /// Its words; the memory holds sentinels afterwards.
    fn take(self, compute: &Compute) -> Result<Vec<u32>, DeviceError> {
        match self {
            Output::Floats(tensor) => {
                let values = block_on(compute.read_floats(tensor.clone()))?;
                compute.write(&tensor, 0, &SENTINEL.to_le_bytes().repeat(values.len()));
                Ok(values.iter().map(|x| x.to_bits()).collect())
            }
            Output::Words(tensor) => {
                let values = block_on(compute.read_words(tensor.clone()))?;
                compute.write(&tensor, 0, &SENTINEL.to_le_bytes().repeat(values.len()));
                Ok(values)
            }
        }
    }
}

/// Where a trial runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Where {
    /// In every family.
    Families,
    /// In every family, and again on a device with WebGPU's default limits.
    FamiliesAndLimits,
    /// In every family, and those that are not Lane again on such a device: Lane kernels ask for less, and compile longest.
    FamiliesAndGroupLimits,
    /// In the Workgroup family on such a device only.
    WorkgroupLimits,
    /// In the Lane family only.
    Lane,
    /// In the families that are not Lane.
    Groups,
    /// Once on each device: the kernel has one shape.
    Once,
}

/// What makes the launches of a trial and gives the outputs, in the order of the wants.
pub(super) type Launch = Box<dyn Fn(&Compute) -> Vec<Output>>;

/// One case of a kernel.
pub(super) struct Trial {
    /// Its name: why it is there.
    pub(super) name: String,
    /// Where it runs.
    pub(super) on: Where,
    /// The reference is wrong, and a verdict of red is what passes.
    pub(super) is_planted: bool,
    /// What it must leave in memory.
    pub(super) wants: Vec<Want>,
    /// The launches.
    pub(super) launch: Launch,
}

impl Trial {
    /// A trial of every family.
    pub(super) fn new(name: impl Into<String>, wants: Vec<Want>, launch: Launch) -> Self {
        Self { name: name.into(), on: Where::Families, is_planted: false, wants, launch }
    }

    /// The same trial elsewhere.
    pub(super) fn on(self, on: Where) -> Self {
        Self { on, ..self }
    }

    /// The same launch with a wrong reference, which must be seen.
    pub(super) fn planted(self, fault: &str) -> Self {
        Self { name: format!("planted: {fault}"), on: Where::Lane, is_planted: true, ..self }
    }

    /// Launches, reads and compares.
    pub(super) fn judge(&self, compute: &Compute) -> Result<Verdict, DeviceError> {
        let outputs = (self.launch)(compute);
        assert_eq!(outputs.len(), self.wants.len(), "{}: outputs", self.name);
        let mut verdict = Verdict::default();
        for (want, output) in self.wants.iter().zip(outputs) {
            verdict.add(want, &output.take(compute)?);
        }
        Ok(verdict)
    }
}

/// What was found in all outputs of a trial.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Verdict {
    /// Words compared.
    pub(super) compared: usize,
    /// Words that are wrong.
    pub(super) wrong: usize,
    /// Largest error over its budget, where there are budgets; infinite for a wrong class or wrong bits.
    pub(super) excess: f64,
    /// The worst word, in words.
    pub(super) worst: String,
}

impl Verdict {
    /// Compares one output, of which every word counts.
    pub(super) fn add(&mut self, want: &Want, found: &[u32]) {
        let found = want.words_of(found);
        if want.cells.is_empty() || found.len() != want.cells.len() {
            self.wrong += 1;
            self.excess = f64::INFINITY;
            self.worst = format!("{}: expected {} words, found {}", want.what, want.cells.len(), found.len());
            return;
        }
        for (i, (&cell, &bits)) in want.cells.iter().zip(&found).enumerate() {
            let Some(excess) = excess(cell, bits) else { continue };
            self.compared += 1;
            self.wrong += usize::from(!is_right(excess));
            if excess > self.excess {
                self.excess = excess;
                self.worst =
                    format!("{} row {} column {}: {}", want.what, i / want.width, i % want.width, said(cell, bits));
            }
        }
    }

    /// Whether something was compared, and every word is right.
    pub(super) fn holds(&self) -> bool {
        self.compared > 0 && self.wrong == 0 && is_right(self.excess)
    }
}

/// States success only: NaN is no success.
fn is_right(excess: f64) -> bool {
    excess <= 1.0
}

/// The error over the budget; infinite for a wrong class or wrong bits, `None` for an open cell.
fn excess(cell: Cell, bits: u32) -> Option<f64> {
    match cell {
        Cell::Open => None,
        Cell::Bits(want) => Some(if bits == want { 0.0 } else { f64::INFINITY }),
        Cell::Near(want, budget) => {
            let excess = (f64::from(f32::from_bits(bits)) - want).abs() / budget;
            Some(if excess.is_nan() { f64::INFINITY } else { excess })
        }
    }
}

fn said(cell: Cell, bits: u32) -> String {
    let found = f32::from_bits(bits);
    match cell {
        Cell::Open => String::new(),
        Cell::Bits(want) => {
            format!("expected {want:#010x} ({:e}), found {bits:#010x} ({found:e})", f32::from_bits(want))
        }
        Cell::Near(want, budget) => {
            let error = (f64::from(found) - want).abs();
            format!("expected {want:e}, found {found:e}: error {error:.2e}, budget {budget:.2e}")
        }
    }
}
