//! The program's own heap; here because `unsafe` is allowed here.

/// Gives the system back what the allocator keeps of memory that was freed. May take some milliseconds, in which other
/// threads that allocate wait for one another: for quiet moments. Does nothing where the C library is not GNU's.
pub fn release_free_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer; it locks each arena while it looks through it, so other threads may go on, and it
    // touches only memory that nobody owns.
    unsafe {
        libc::malloc_trim(0);
    }
}
