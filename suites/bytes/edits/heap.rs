//! A meter of the heap that one thread takes, for readers that must not take more than their input justifies.
//!
//! It is the allocator of this test binary: it counts, and leaves the work to the system's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Bytes that a thread holds, and the most it held since the last look.
#[derive(Clone, Copy)]
struct Held {
    now: i64,
    peak: i64,
}

thread_local! {
    // No destructor and no lazy start, so that the allocator may use it at any time.
    static HELD: Cell<Held> = const { Cell::new(Held { now: 0, peak: 0 }) };
}

fn count(bytes: i64) {
    let held = HELD.get();
    let now = held.now + bytes;
    HELD.set(Held { now, peak: held.peak.max(now) });
}

struct Counting;

// SAFETY: every call goes to `System` unchanged; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise is the one that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // Old and new may both be there while the contents move.
        count(bytes as i64);
        count(-(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.realloc(old, layout, bytes) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Runs `work` on this thread; its result, and by how many bytes this thread's heap grew at the peak.
pub(super) fn peak_bytes_of<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = HELD.get().now;
    HELD.set(Held { now: before, peak: before });
    let result = work();
    (result, (HELD.get().peak - before) as u64)
}

#[test]
fn the_meter_sees_a_known_allocation_come_and_go() {
    const BYTES: usize = 1 << 20;
    let probe = || std::hint::black_box(Vec::<u8>::with_capacity(BYTES));
    assert_eq!(peak_bytes_of(|| drop(probe())).1, BYTES as u64);
    assert_eq!(peak_bytes_of(|| [probe(), probe()].len()).1, 2 * BYTES as u64);
    assert_eq!(peak_bytes_of(|| (drop(probe()), drop(probe()))).1, BYTES as u64);
    assert_eq!(peak_bytes_of(|| ()).1, 0);
    // A growing vector holds its old and its new contents at once.
    let grown = peak_bytes_of(|| {
        let mut probe = probe();
        probe.reserve_exact(2 * BYTES);
        std::hint::black_box(probe).capacity()
    });
    assert_eq!(grown, (2 * BYTES, 3 * BYTES as u64));
}
