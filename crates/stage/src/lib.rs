//! The messages between `sandboxd` and the static program that this package also builds: `zygote` (makes sandboxes),
//! `stage` (PID 1 of one) and `search`. Types and framing only; no system call.

pub mod frame;
pub mod protocol;

#[cfg(test)]
mod fuzz;
