//! A progress bar with rate and time to go, and interrupts that let work clean up.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

use crate::exit::Exit;
use crate::telemetry::Progress;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// Operations under way that look at [`INTERRUPTED`] and end by themselves.
static CANCELLABLE: AtomicUsize = AtomicUsize::new(0);

/// While it lives, an interrupt ends a turn and not the program.
pub(super) struct Turns;

impl Turns {
    pub(super) fn begin() -> Turns {
        INTERRUPTED.store(false, Ordering::SeqCst);
        CANCELLABLE.fetch_add(1, Ordering::SeqCst);
        Turns
    }

    /// Whether the turn should end.
    pub(super) fn interrupted(&self) -> bool {
        INTERRUPTED.load(Ordering::SeqCst)
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        CANCELLABLE.fetch_sub(1, Ordering::SeqCst);
        INTERRUPTED.store(false, Ordering::SeqCst);
    }
}

/// The first interrupt asks cancellable work to stop; with none under way, or at the second, the process ends.
pub(super) fn watch_interrupts() {
    let on_interrupt = || {
        let again = INTERRUPTED.swap(true, Ordering::SeqCst);
        if again || CANCELLABLE.load(Ordering::SeqCst) == 0 {
            std::process::exit(Exit::Interrupted as i32);
        }
    };
    // Failing to install the handler leaves the system's default: the process ends at once.
    let _ = ctrlc::set_handler(on_interrupt);
}

/// Progress on stderr: a bar on a terminal, nothing elsewhere.
#[derive(Default)]
pub struct Bar {
    bar: Mutex<Option<ProgressBar>>,
}

impl Bar {
    /// A bar for the operations to come; while it lives, an interrupt waits for them to stop.
    pub fn new() -> Bar {
        CANCELLABLE.fetch_add(1, Ordering::SeqCst);
        Bar::default()
    }

    fn current(&self) -> Option<ProgressBar> {
        self.bar.lock().map(|bar| bar.clone()).unwrap_or(None)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        CANCELLABLE.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Progress for Bar {
    fn begin(&self, what: &str, total_bytes: u64) {
        let template = "{msg:>8} [{bar:32}] {bytes}/{total_bytes}  {bytes_per_sec}  {eta} to go";
        let style = ProgressStyle::with_template(template).expect("the template is valid").progress_chars("=> ");
        let bar = ProgressBar::new(total_bytes).with_style(style).with_message(what.to_string());
        if let Ok(mut current) = self.bar.lock() {
            *current = Some(bar);
        }
    }

    fn advance(&self, bytes: u64) {
        if let Some(bar) = self.current() {
            bar.inc(bytes);
        }
    }

    fn finish(&self) {
        if let Some(bar) = self.current() {
            bar.finish_and_clear();
        }
    }

    fn cancelled(&self) -> bool {
        INTERRUPTED.load(Ordering::SeqCst)
    }
}
