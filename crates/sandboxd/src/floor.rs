//! The floor of every start: a bare clone and exec, with nothing isolated. `greenroom bench start` prints it beside.

use std::ffi::CString;
use std::io;
use std::time::{Duration, Instant};

/// Starts `argv[0]` (a path) by `posix_spawn`, which the C library does with clone and exec, waits for its end, and says
/// how long both took. Output goes where the caller's goes.
pub fn floor_exec(argv: &[&str]) -> io::Result<Duration> {
    let arguments = argv.iter().map(|text| CString::new(*text)).collect::<Result<Vec<_>, _>>()?;
    let program = arguments.first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut pointers: Vec<*mut libc::c_char> =
        arguments.iter().map(|text| text.as_ptr().cast_mut()).collect();
    pointers.push(std::ptr::null_mut());
    let env = [std::ptr::null_mut()];
    let started = Instant::now();
    let mut pid = 0;
    // SAFETY: both arrays end with null and point to live strings; null attributes and actions ask for the defaults.
    let errno = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            program.as_ptr(),
            std::ptr::null(),
            std::ptr::null(),
            pointers.as_ptr(),
            env.as_ptr(),
        )
    };
    if errno != 0 {
        return Err(io::Error::from_raw_os_error(errno));
    }
    let pid = rustix::process::Pid::from_raw(pid);
    rustix::process::waitpid(pid, rustix::process::WaitOptions::empty())?;
    Ok(started.elapsed())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_bare_start_takes_time_and_a_missing_program_fails() {
        assert!(super::floor_exec(&["/bin/true"]).unwrap() > std::time::Duration::ZERO);
        assert!(super::floor_exec(&["/no/such/program"]).is_err());
    }
}
