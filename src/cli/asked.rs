//! Which logits of which tokens a command is asked for, and the SafeTensors file that they are written to.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Failure, output_exit};
use crate::exit::Exit;
use crate::output::PendingFile;

/// Tokens in, logits out.
#[derive(Debug, Args)]
pub(super) struct Asked {
    /// The token ids, separated by commas
    #[arg(long, value_name = "IDS", value_delimiter = ',', required_unless_present = "tokens_file")]
    tokens: Vec<u32>,
    /// A JSON list of token ids
    #[arg(long, value_name = "FILE", conflicts_with = "tokens")]
    tokens_file: Option<PathBuf>,
    /// Which positions: all, last, or a list separated by commas
    #[arg(long, value_name = "WHICH", default_value = "last", value_parser = which)]
    positions: Which,
    /// A JSON list of vocabulary ids: only their logits are written, in that order
    #[arg(long, value_name = "FILE")]
    vocab_ids: Option<PathBuf>,
    /// The file to write: tensor "logits", [positions, vocab]; it appears whole or not at all
    #[arg(long, value_name = "FILE")]
    pub(super) out: PathBuf,
}

#[derive(Debug, Clone)]
enum Which {
    All,
    Last,
    These(Vec<usize>),
}

fn which(text: &str) -> Result<Which, String> {
    match text {
        "all" => Ok(Which::All),
        "last" => Ok(Which::Last),
        list => {
            let ids: Result<Vec<usize>, _> = list.split(',').map(|id| id.trim().parse()).collect();
            let mut ids = ids.map_err(|_| "`all`, `last`, or positions separated by commas".to_string())?;
            ids.sort_unstable();
            ids.dedup();
            Ok(Which::These(ids))
        }
    }
}

/// A JSON list of ids.
fn id_list(path: &Path) -> Result<Vec<u32>, Failure> {
    let wrong = |what: String| {
        Failure::new(
            Exit::Input,
            format!("{}: {what}", path.display()),
            "a JSON list of token ids, for example [1,2,3]",
        )
    };
    let text = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
    serde_json::from_slice(&text).map_err(|e| wrong(format!("expected a list of ids: {e}")))
}

/// What was asked for, read and found possible, the vocabulary aside.
pub(super) struct Wanted {
    /// The prompt.
    pub(super) tokens: Vec<u32>,
    /// Positions whose logits are wanted, ascending.
    pub(super) positions: Vec<usize>,
    /// Vocabulary ids whose logits are wanted; all without.
    pub(super) columns: Option<Vec<u32>>,
}

impl Asked {
    /// Reads the files and looks at the positions.
    pub(super) fn read(&self) -> Result<Wanted, Failure> {
        let tokens = match &self.tokens_file {
            Some(path) => id_list(path)?,
            None => self.tokens.clone(),
        };
        let columns = self.vocab_ids.as_deref().map(id_list).transpose()?;
        let positions: Vec<usize> = match &self.positions {
            Which::All => (0..tokens.len()).collect(),
            Which::Last => tokens.len().checked_sub(1).into_iter().collect(),
            Which::These(positions) => positions.clone(),
        };
        match positions.iter().find(|&&position| position >= tokens.len()) {
            None => Ok(Wanted { tokens, positions, columns }),
            Some(far) => {
                let message = format!("position {far} is asked for, the prompt has {} tokens", tokens.len());
                Err(Failure::new(Exit::Usage, message, "other --positions"))
            }
        }
    }

    /// What an output error means for the caller.
    pub(super) fn failed(&self, error: std::io::Error) -> Failure {
        Failure::new(output_exit(&error), format!("{}: {error}", self.out.display()), "choose another --out")
    }
}

impl Wanted {
    /// Whether a vocabulary of `rows` has every column, and there is one.
    pub(super) fn check_columns(&self, rows: usize) -> Result<(), Failure> {
        let message = match (&self.columns, self.columns.iter().flatten().find(|&&id| id as usize >= rows)) {
            (_, Some(id)) => format!("--vocab-ids: id {id} is outside the vocabulary of {rows} rows"),
            (Some(ids), None) if ids.is_empty() => "--vocab-ids: expected ids, found an empty list".to_string(),
            _ => return Ok(()),
        };
        Err(Failure::new(Exit::Input, message, "other ids"))
    }
}

/// A SafeTensors file of one tensor `logits` that is written row by row.
pub(super) struct LogitsFile<'p> {
    file: BufWriter<&'p std::fs::File>,
}

impl<'p> LogitsFile<'p> {
    /// Writes the header of `rows` rows of `width` values; `dtype` and its size in bytes are the format's.
    pub(super) fn begin(
        pending: &'p PendingFile,
        (dtype, bytes): (&str, usize),
        rows: usize,
        width: usize,
    ) -> std::io::Result<Self> {
        let mut file = BufWriter::new(pending.file());
        let tensor = serde_json::json!({
            "logits": { "dtype": dtype, "shape": [rows, width], "data_offsets": [0, rows * width * bytes] }
        });
        // Padded to a multiple of 8 bytes.
        let mut text = tensor.to_string();
        while !text.len().is_multiple_of(8) {
            text.push(' ');
        }
        file.write_all(&(text.len() as u64).to_le_bytes())?;
        file.write_all(text.as_bytes())?;
        Ok(Self { file })
    }

    /// Appends bytes of rows.
    pub(super) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Writes what is left.
    pub(super) fn end(mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}
