//! How soon the probes' thread runs once a client is there.

/// The time slice that is asked for; the least that Linux gives.
const SLICE_NS: u64 = 100_000;

/// Asks the kernel for short turns instead of long ones, which lets this thread run as soon as it wakes while all
/// processors are busy with the node's tasks. It needs no privilege and takes nobody's share. Kernels before Linux 6.12
/// have one length for all; there nothing changes.
#[expect(unsafe_code, reason = "libc has no wrapper of sched_getattr and sched_setattr")]
pub(super) fn ask_for_short_turns() {
    let size = size_of::<libc::sched_attr>() as libc::c_uint;
    // SAFETY: a plain structure of integers, for which zeros are a value.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the calling thread's attributes are written into memory of the length that is passed.
    if unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) } != 0 {
        return;
    }
    if attributes.sched_policy != libc::SCHED_OTHER as u32 {
        // Somebody chose how this program is scheduled.
        return;
    }
    attributes.sched_runtime = SLICE_NS;
    // SAFETY: the same structure back for the calling thread; a refusal changes nothing, and none is missed.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}
