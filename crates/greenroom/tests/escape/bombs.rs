//! Attacks on what sandboxes share: processes, memory, descriptors, terminals, watches, output. Each is contained, and
//! the machine's other sandboxes go on.

use crate::world::{World, finish, shell, unique};
use crate::{is_user, world};
use greenroom_sandbox::{ExecEvent, ExecSpec, ExitReason, Sandbox};

fn python(script: &str, arguments: &[&str]) -> ExecSpec {
    let mut spec = shell(&unique("bomb"), "");
    spec.argv = [&["/usr/bin/python3", "-c", script], arguments]
        .concat()
        .iter()
        .map(|text| (*text).to_owned())
        .collect();
    spec.timeout_ms = 60_000;
    spec
}

/// Lets `bomb` go off in the first sandbox while the rest of the machine is used.
async fn goes_off(world: &World, bomb: ExecSpec) -> (String, ExitReason) {
    let ((output, exit), ()) = tokio::join!(finish(&*world.first, bomb), world.is_responsive());
    world.is_responsive().await;
    (output, exit.reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_is_contained() {
    let world = world().await;
    let mut bomb = shell("fork-bomb", "bomb() { bomb | bomb & }; bomb; sleep 2; echo survived");
    bomb.timeout_ms = 15_000;
    goes_off(&world, bomb).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_of_threads_is_contained() {
    let world = world().await;
    let script = "import threading,time\nn=0\ntry:\n  while n < 100000:\n    threading.Thread(target=time.sleep,args=(30,),daemon=True).start(); n+=1\n\
                  except RuntimeError: print(n,flush=True)\nimport os; os._exit(0)";
    let (output, _) = goes_off(&world, python(script, &[])).await;
    let threads: u32 = output.trim().parse().expect("the bomb met a limit");
    assert!(threads <= 65_536, "{threads} threads were started");
    world.end().await;
}

/// The one gap of an ordinary user here: memory is not bounded, so more than the limit can be had.
#[tokio::test(flavor = "multi_thread")]
async fn a_memory_bomb_ends_only_itself() {
    let world = world().await;
    let megabytes = if is_user() { "640" } else { "1000000" };
    let script = "import sys\nheld=[]\nfor n in range(int(sys.argv[1])):\n  held.append(bytearray(1<<20)); held[-1][::4096]=b'x'*256\nprint('all of it')";
    let (output, end) = goes_off(&world, python(script, &[megabytes])).await;
    if is_user() {
        assert_eq!(output, "all of it\n", "an ordinary user's sandboxes have no memory limit: {end:?}");
    } else {
        assert_ne!(end, ExitReason::Code { code: 0 });
        assert_eq!(output, "", "{end:?}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_in_file_systems_is_bounded() {
    let world = world().await;
    for directory in ["/dev/shm", "/run"] {
        let script = format!(
            "head -c 1500000000 /dev/zero > {directory}/bomb; echo $?; stat -c %s {directory}/bomb; rm -f {directory}/bomb"
        );
        let mut bomb = shell(&unique("tmpfs"), &script);
        bomb.timeout_ms = 60_000;
        let (output, _) = goes_off(&world, bomb).await;
        assert!(!output.starts_with("0\n"), "{directory} took 1.5 GB: {output}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_are_reaped() {
    let world = world().await;
    let script = "for i in $(seq 500); do (true &) ; done; sleep 0.2; ls -d /proc/[0-9]* | wc -l";
    let (output, _) = finish(&*world.first, shell("orphans", script)).await;
    let processes: u32 = output.trim().parse().expect("a count");
    assert!(processes < 30, "{processes} processes are left");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_output_fills_no_memory() {
    let world = world().await;
    let mut flood = shell("flood", "yes 0123456789012345678901234567890123456789012345678901234567890123");
    flood.timeout_ms = 4_000;
    flood.output_limit_bytes = 8 << 20;
    let before = resident_bytes();
    let mut events = world.first.exec(flood).await.unwrap();
    // A reader that is slow for a while: the program waits, nothing piles up.
    world.is_responsive().await;
    let mut seen = 0;
    let exit = loop {
        match events.recv().await.expect("the outcome is known") {
            ExecEvent::Output { bytes, .. } => seen += bytes.len() as u64,
            ExecEvent::Exit(exit) => break exit,
        }
    };
    assert_eq!(exit.reason, ExitReason::TimedOut);
    assert!(seen <= 8 << 20, "{seen} bytes came through a limit of 8 MiB");
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "the server grew by {grown} bytes");
    world.end().await;
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_requests_is_bounded() {
    let world = world().await;
    let calls = (0..600).map(|n| {
        let first = world.first.clone();
        async move {
            let mut spec = shell(&format!("call-{n}"), "exit 0");
            spec.timeout_ms = 20_000;
            let mut events = first.exec(spec).await?;
            while events.recv().await.is_some() {}
            Ok::<_, greenroom_sandbox::Error>(())
        }
    });
    // Nobody acknowledges: past 512 kept runs the rest is refused in words, and the sandbox still answers.
    futures::future::join_all(calls).await;
    for n in 0..600 {
        let _ = world.first.acknowledge(&format!("call-{n}")).await;
    }
    let (output, _) = finish(&*world.first, shell("after", "echo after")).await;
    assert_eq!(output, "after\n");
    world.end().await;
}

/// Watches are counted for all sandboxes of a host user together; one may not take them all.
#[tokio::test(flavor = "multi_thread")]
async fn an_exhaustion_of_watches_leaves_some_for_others() {
    let world = world().await;
    let script = "import ctypes,sys,time\nc=ctypes.CDLL(None,use_errno=True)\nn=0\nwhile c.inotify_init1(0)>=0 and n<100000: n+=1\nprint(n,flush=True)\ntime.sleep(60)";
    let taken = hold(&world, &*world.first, script).await;
    let script = "import ctypes; print(ctypes.CDLL(None).inotify_init1(0) >= 0)";
    let (output, _) = finish(&*world.second, python(script, &[])).await;
    assert_eq!(output, "True\n", "the other sandbox has none after one took {taken}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exhaustion_of_terminals_leaves_some_for_others() {
    let world = world().await;
    let script = "import os,time\nheld=[]\ntry:\n  while len(held)<20000: held.append(os.openpty())\nexcept OSError: pass\nprint(len(held),flush=True)\ntime.sleep(60)";
    let taken = hold(&world, &*world.first, script).await;
    let (output, _) = finish(&*world.second, python("import os; os.openpty(); print('one')", &[])).await;
    assert_eq!(output, "one\n", "the other sandbox has none after one took {taken}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exhaustion_of_descriptors_stays_inside() {
    let world = world().await;
    let script = "import os,time\nheld=[]\ntry:\n  while len(held)<2000000: held.append(os.open('/dev/null',0))\nexcept OSError: pass\nprint(len(held),flush=True)\ntime.sleep(60)";
    let taken = hold(&world, &*world.first, script).await;
    assert!(taken <= 65_536, "{taken} descriptors");
    world.is_responsive().await;
    world.end().await;
}

/// Connections to the broker are counted for each sandbox.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_connections_leaves_room_for_others() {
    let world = world().await;
    let script = "import socket,time\nheld=[]\nfor n in range(2000):\n  s=socket.socket(); s.settimeout(2)\n  try:\n    s.connect(('192.0.2.1',80)); held.append(s)\n  except OSError: break\nprint(len(held),flush=True)\ntime.sleep(60)";
    hold(&world, &*world.first, script).await;
    let script = "import socket; s=socket.create_connection(('192.0.2.1',80),20); \
                  s.sendall(b'GET / HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n'); print(s.recv(100)[:12].decode())";
    let (output, _) = finish(&*world.second, python(script, &[])).await;
    assert!(output.starts_with("HTTP/1.1 4"), "the broker refuses the other in words: {output}");
    world.end().await;
}

/// Starts a script that takes something and keeps it; answers the number it printed.
async fn hold(world: &World, sandbox: &dyn Sandbox, script: &str) -> u64 {
    let mut events = sandbox.exec(python(script, &[])).await.unwrap();
    let mut line = String::new();
    while !line.ends_with('\n') {
        match tokio::time::timeout(crate::PATIENCE, events.recv()).await.expect("prints a number") {
            Some(ExecEvent::Output { bytes, .. }) => line.push_str(&String::from_utf8_lossy(&bytes)),
            other => panic!("{line}{other:?}"),
        }
    }
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    world.is_responsive().await;
    line.trim().parse().unwrap_or_else(|_| panic!("{line:?} is no number"))
}

/// A gap that docs/security.md names: only a volume bounds the disk (its tests are in crate `sandboxd`), and an ordinary
/// user has none.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_volume_the_disk_is_not_bounded() {
    let world = world().await;
    let bound = crate::world::bounded().disk_bytes.unwrap();
    let script = format!(
        "head -c {} /dev/zero > /workspace/bomb && stat -c %s /workspace/bomb; rm -f /workspace/bomb",
        bound + (8 << 20)
    );
    let (output, _) = goes_off(&world, shell("disk", &script)).await;
    assert_eq!(output.trim(), (bound + (8 << 20)).to_string());
    let capability = greenroom_sandbox::SandboxProvider::capabilities(&*world.provider);
    let disk =
        capability.entries.iter().find(|entry| entry.name == "disk_limit").expect("said of every machine");
    assert!(!disk.is_available && !disk.detail.is_empty(), "{disk:?}");
    world.end().await;
}
