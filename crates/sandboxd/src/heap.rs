//! The program's own heap; here because `unsafe` is allowed here.

/// Sets how many heaps the C library keeps, before the first thread is started: by default eight for each processor, and what
/// lives long is then strewn over all of them between what soon goes, so that hardly a page is ever free. Does nothing where
/// the C library is not GNU's.
pub fn bound_heaps(count: u16) {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer; sets a number that the allocator reads when a thread first allocates.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, libc::c_int::from(count));
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = count;
}

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
