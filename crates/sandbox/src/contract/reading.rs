//! Runs that only read: what they cannot change, and what they can.

use super::{Subject, code, finish, run, shell};
use crate::ExecSpec;

/// `shell`, bound to reading.
pub fn look(call: &str, script: &str) -> ExecSpec {
    ExecSpec { is_read_only: true, ..shell(call, script) }
}

pub async fn a_run_that_only_reads_writes_nothing_but_below_tmp(subject: &Subject) {
    let sandbox = subject.claim().await;
    sandbox.write_file("/workspace/kept", b"as it was\n").await.expect("writes");
    let (output, exit) = finish(&*sandbox, look("a", "echo new > /workspace/kept")).await;
    assert_ne!(exit.reason, code(0), "{output}");
    assert!(output.contains("/workspace/kept: Permission denied"), "{output}");
    let (output, exit) = finish(&*sandbox, look("b", "echo new > /workspace/made")).await;
    assert_ne!(exit.reason, code(0), "{output}");
    let (output, exit) =
        finish(&*sandbox, look("c", "echo note > /tmp/note; cat /tmp/note /workspace/kept")).await;
    assert_eq!((output.as_str(), exit.reason), ("note\nas it was\n", code(0)));
    // The next run is free again.
    assert_eq!(
        run(&*sandbox, "echo more >> /workspace/kept; cat /workspace/kept").await,
        "as it was\nmore\n"
    );
    let names: Vec<String> =
        sandbox.list_dir("/workspace").await.expect("lists").into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["kept"]);
    sandbox.destroy().await.expect("destroys");
}

/// Every other way to change a file that the kernel has, and the ways around: each must fail, and nothing may differ.
pub async fn a_run_that_only_reads_finds_no_other_way_to_change_a_file(subject: &Subject) {
    let sandbox = subject.claim().await;
    sandbox.write_file("/workspace/dir/file", b"as it was\n").await.expect("writes");
    sandbox.write_file("/workspace/attempts.py", ATTEMPTS.as_bytes()).await.expect("writes");
    let facts = "cd /workspace; mkdir -p empty; find . -printf '%p %m %U %s %T@ %n\\n' | sort; cat dir/file; sleep 1000 & echo $! > /tmp/pid";
    let before = run(&*sandbox, facts).await;
    let (output, exit) = finish(&*sandbox, look("attempts", "python3 /workspace/attempts.py")).await;
    assert_eq!((output.as_str(), exit.reason), ("refused all\n", code(0)));
    assert_eq!(run(&*sandbox, facts).await, before);
    sandbox.destroy().await.expect("destroys");
}

const ATTEMPTS: &str = r#"
import ctypes, errno, fcntl, os, shutil, signal, socket, struct
c = ctypes.CDLL(None, use_errno=True)
F, D, N = "/workspace/dir/file", "/workspace/dir", "/workspace/new"
pid = open("/tmp/pid").read().strip()
def call(name, *arguments):
    if getattr(c, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)
def raw(number, *arguments):
    if c.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), str(number))
def fd(flags): return os.open(F, flags)
def bind():
    s = socket.socket(socket.AF_UNIX); s.bind(N)
attempts = [
    lambda: open(F, "w"), lambda: open(F, "a"), lambda: open(F, "r+"), lambda: open(N, "x"),
    lambda: fd(os.O_RDONLY | os.O_TRUNC), lambda: fd(os.O_RDWR), lambda: os.open(D, os.O_TMPFILE | os.O_WRONLY),
    lambda: os.truncate(F, 0),
    lambda: os.unlink(F), lambda: os.rmdir("/workspace/empty"), lambda: shutil.rmtree(D),
    lambda: os.rename(F, N), lambda: os.rename(F, "/tmp/moved"), lambda: os.rename("/tmp/pid", N),
    lambda: os.link(F, N), lambda: os.link(F, "/tmp/linked"), lambda: os.symlink(F, N),
    lambda: os.mkdir(N), lambda: os.mkfifo(N), lambda: os.mknod(N), bind,
    lambda: os.chmod(F, 0o777), lambda: os.fchmod(fd(os.O_RDONLY), 0o777),
    lambda: raw(452, -100, F.encode(), 0o777, 0),
    lambda: os.chown(F, 1, 1), lambda: os.fchown(fd(os.O_RDONLY), 1, 1), lambda: os.lchown(F, 1, 1),
    lambda: os.utime(F, (1, 1)), lambda: os.utime(fd(os.O_RDONLY), (1, 1)),
    lambda: os.setxattr(F, "user.x", b"1"), lambda: os.setxattr(fd(os.O_RDONLY), "user.x", b"1"),
    lambda: os.removexattr(F, "user.x"),
    lambda: fcntl.ioctl(fd(os.O_RDONLY), 0x40086602, struct.pack("l", 0x40)),
    lambda: open(f"/proc/self/fd/{fd(os.O_RDONLY)}", "w"),
    lambda: open(f"/proc/self/root{F}", "w"), lambda: open(f"/proc/self/cwd/../..{F}", "w"),
    lambda: open(f"/proc/{pid}/root{F}", "w"), lambda: open(f"/proc/{pid}/mem", "r+b"),
    lambda: call("ptrace", 16, int(pid), 0, 0),
    lambda: call("unshare", 0x20000), lambda: call("mount", b"none", D.encode(), b"tmpfs", 0, None),
]
for number, attempt in enumerate(attempts):
    try:
        attempt()
    except OSError as error:
        # Not for another reason, such as a missing file.
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EXDEV):
            continue
        print("attempt", number, "failed otherwise:", error)
    else:
        print("attempt", number, "worked")
print("refused all")
"#;
