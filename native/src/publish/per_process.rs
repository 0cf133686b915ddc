//! A value of which every process has its own, although the memory around it was copied by a fork.

use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Holds the value of the process that last asked. A lock in an inherited value may be held for ever by a
/// thread that does not exist here, so an inherited value is replaced without being locked, and leaked.
pub(crate) struct PerProcess<T> {
    current: AtomicPtr<Owned<T>>,
}

struct Owned<T> {
    pid: u32,
    value: T,
}

impl<T: Send + Sync> PerProcess<T> {
    /// Holds a value for this process.
    pub(crate) fn new(value: T) -> Self {
        Self { current: AtomicPtr::new(Self::own(value)) }
    }

    fn own(value: T) -> *mut Owned<T> {
        Box::into_raw(Box::new(Owned { pid: std::process::id(), value }))
    }

    /// This process's value. In a process that has none yet, `make` makes it, and `forget` is shown the
    /// inherited one exactly once.
    #[expect(unsafe_code, reason = "a shared value that is replaced but never freed while shared")]
    pub(crate) fn get(&self, make: impl FnOnce() -> T, forget: impl FnOnce(&T)) -> &T {
        let current = self.current.load(Ordering::Acquire);
        // SAFETY: the pointer came from `Box::into_raw`, and what it points to is freed only in `drop`, which
        // cannot run while `self` is borrowed; replaced values are leaked.
        let owned = unsafe { &*current };
        if owned.pid == std::process::id() {
            return &owned.value;
        }
        let fresh = Self::own(make());
        match self.current.compare_exchange(current, fresh, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                forget(&owned.value);
                // SAFETY: as above; `fresh` is now the current value.
                unsafe { &(*fresh).value }
            }
            Err(winner) => {
                // SAFETY: `fresh` was never shared; `winner` is the current value, as above.
                unsafe {
                    drop(Box::from_raw(fresh));
                    &(*winner).value
                }
            }
        }
    }
}

impl<T> Drop for PerProcess<T> {
    #[expect(unsafe_code, reason = "gives back what `new` or `get` leaked into the pointer")]
    fn drop(&mut self) {
        let current = std::mem::replace(self.current.get_mut(), ptr::null_mut());
        if current.is_null() {
            return;
        }
        // SAFETY: nobody else can hold a reference, and the pointer came from `Box::into_raw`.
        let owned = unsafe { Box::from_raw(current) };
        if owned.pid != std::process::id() {
            // Inherited: its locks and sockets belong to another process.
            std::mem::forget(owned);
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for PerProcess<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PerProcess").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn a_process_keeps_its_value() {
        let value = PerProcess::new(5);
        for _ in 0..3 {
            assert_eq!(*value.get(|| panic!("made again"), |_| panic!("forgotten")), 5);
        }
    }

    #[test]
    fn an_inherited_value_is_replaced_once_and_forgotten_once() {
        let value = PerProcess { current: AtomicPtr::new(Box::into_raw(Box::new(Owned { pid: 0, value: 1 }))) };
        let forgotten = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let fresh = value.get(
                        || 2,
                        |old| {
                            forgotten.fetch_add(*old, Ordering::SeqCst);
                        },
                    );
                    assert_eq!(*fresh, 2);
                });
            }
        });
        assert_eq!(forgotten.into_inner(), 1);
    }
}
