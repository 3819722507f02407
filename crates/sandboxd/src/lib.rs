//! The Linux runtime of sandboxes: `LocalProvider` implements `greenroom_sandbox::SandboxProvider` on this machine with
//! namespaces, overlays and cgroups. It owns processes, mounts and limits; it knows no session, policy or HTTP. The
//! privileged work is done by a zygote process, started from the static program of crate `stage`.
#![allow(unsafe_code, reason = "a few system calls that no crate wraps; every block carries its proof")]

mod btrfs;
mod capabilities;
mod cgroup;
mod channel;
mod claim;
mod conversation;
mod datagram;
mod doctor;
mod egress;
mod exec;
mod floor;
mod handle;
mod heap;
mod landlock;
mod memory;
mod ports;
mod program;
mod provider;
mod rebind;
mod registry;
mod room;
mod sandbox;
mod snapshot;
mod spare;
mod stock;
mod terminal;
mod tools;
mod volume;
mod watch;
mod workspace;
mod zygote;

pub use doctor::{MACHINE_ENTRIES, TRIAL, diagnose};
pub use floor::floor_exec;
pub use heap::{bound_heaps, release_free_heap};
pub use provider::{DEFAULT_BLANKS, LocalProvider, LocalSettings, Mode};
pub use stock::MAX_BLANKS;
pub use tools::{HostTools, host_tool_binds};
pub use volume::{Volume, VolumeEnd, VolumeError, VolumeSettings, enter_private_mounts};
pub use workspace::DEFAULT_DISK;
