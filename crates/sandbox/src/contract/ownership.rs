//! Promises about blanks, about sandboxes that change their owner, and about those that stand still.

use super::{PATIENCE, Subject, finish, run, shell};
use crate::{Error, Exit, ExitReason, Fence, Identity, Sandbox};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Long enough for a request that does not wait to be answered, even on a loaded machine.
const A_WHILE: Duration = Duration::from_millis(300);

impl Subject {
    /// An owner whose names nobody else uses.
    pub fn identity(&self) -> Identity {
        let spec = self.spec();
        Identity {
            id: spec.id,
            fence: spec.fence,
            workspace: spec.workspace.directory,
            hostname: spec.hostname,
            env: vec![("GREETING".into(), "from the new owner".into())],
        }
    }

    async fn rebind(&self, sandbox: &dyn Sandbox, to: Identity) -> Arc<dyn Sandbox> {
        let rebound = timeout(PATIENCE, self.provider.rebind(sandbox.id(), to)).await;
        rebound.expect("changes its owner in time").expect("changes its owner")
    }
}

pub async fn a_sandbox_is_given_to_another_owner(subject: &Subject) {
    let former = subject.claim().await;
    former.write_file("/workspace/kept", b"still here").await.expect("writes");
    let to = subject.identity();
    let sandbox = subject.rebind(&*former, to.clone()).await;
    assert_eq!(sandbox.id(), to.id);
    assert_eq!(run(&*sandbox, "cat /workspace/kept; echo $GREETING").await, "still herefrom the new owner\n");
    assert!(matches!(former.exec(shell("late", "true")).await, Err(Error::Ended { .. })));
    assert!(matches!(former.write_file("/workspace/late", b"x").await, Err(Error::Ended { .. })));
    timeout(PATIENCE, former.ended()).await.expect("the former owner is told");
    let alive = subject.provider.list().await.expect("lists");
    assert!(alive.contains(&to.id) && !alive.contains(&former.id().to_owned()), "{alive:?}");
    let again = subject.provider.rebind(former.id(), subject.identity()).await;
    assert!(matches!(again, Err(Error::Ended { .. })), "{again:?}");
    // The former owner has nothing to end any more.
    former.destroy().await.expect("destroys nothing");
    assert_eq!(run(&*sandbox, "echo mine").await, "mine\n");
    sandbox.destroy().await.expect("destroys");
    let mut spec = subject.spec();
    spec.workspace.directory = to.workspace;
    let next = subject.claim_with(spec).await;
    assert_eq!(next.read_file("/workspace/kept", 0, 100).await.expect("reads").bytes, b"still here");
    next.destroy().await.expect("destroys");
}

pub async fn an_outdated_owner_is_given_nothing(subject: &Subject) {
    let sandbox = subject.claim().await;
    let mut newer = subject.spec();
    newer.fence.epoch = 2;
    let owned = subject.claim_with(newer.clone()).await;
    let mut to = subject.identity();
    to.fence = Fence { epoch: 1, ..newer.fence };
    let refused = subject.provider.rebind(sandbox.id(), to).await;
    assert!(matches!(refused, Err(Error::Fenced { seen: 2 })), "{refused:?}");
    let mut taken = subject.identity();
    taken.workspace = newer.workspace.directory;
    let refused = subject.provider.rebind(sandbox.id(), taken).await;
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    assert_eq!(run(&*sandbox, "echo mine").await, "mine\n");
    sandbox.destroy().await.expect("destroys");
    owned.destroy().await.expect("destroys");
}

pub async fn only_one_of_two_owners_gets_a_sandbox(subject: &Subject) {
    let former = subject.claim().await;
    let (one, other) = tokio::join!(
        subject.provider.rebind(former.id(), subject.identity()),
        subject.provider.rebind(former.id(), subject.identity()),
    );
    let mut got = [one, other].into_iter().filter_map(Result::ok);
    let sandbox = got.next().expect("one of them gets it");
    assert!(got.next().is_none(), "both own it");
    assert_eq!(run(&*sandbox, "echo mine").await, "mine\n");
    sandbox.destroy().await.expect("destroys");
}

/// The promises of this file that need no real processes.
pub async fn ownership(subject: &Subject) {
    a_sandbox_is_given_to_another_owner(subject).await;
    an_outdated_owner_is_given_nothing(subject).await;
    only_one_of_two_owners_gets_a_sandbox(subject).await;
}

pub async fn a_given_sandbox_keeps_its_processes_and_changes_its_names(subject: &Subject) {
    let former = subject.claim().await;
    let before = former.id().to_owned();
    run(&*former, "mkfifo /workspace/gate; sleep 1000 > /dev/null 2>&1 &").await;
    let waiting = shell("going-on", "read line < /workspace/gate; echo $line");
    let mut events = former.exec(waiting).await.expect("starts");
    let to = subject.identity();
    let sandbox = subject.rebind(&*former, to.clone()).await;
    // What runs keeps its reader.
    run(&*sandbox, "echo on > /workspace/gate").await;
    let last = timeout(PATIENCE, async {
        let mut last = None;
        while let Some(event) = events.recv().await {
            last = Some(event);
        }
        last
    });
    let is_exit = |event: &crate::ExecEvent| {
        matches!(event, crate::ExecEvent::Exit(Exit { reason: ExitReason::Code { code: 0 }, .. }))
    };
    assert!(last.await.expect("in time").is_some_and(|event| is_exit(&event)));
    assert!(run(&*sandbox, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").await.contains("sleep 1000"));
    let names = run(&*sandbox, "cat /proc/sys/kernel/hostname /etc/hostname; cat /etc/hosts").await;
    assert!(names.starts_with(&format!("{0}\n{0}\n", to.hostname)), "{names}");
    assert!(names.contains(&format!("localhost {}", to.hostname)), "{names}");
    assert!(to.workspace.is_dir());
    sandbox.write_file("/workspace/after", b"x").await.expect("writes");
    let connect = "import socket\ns = socket.create_connection((\"203.0.113.7\", 443), 10)\n\
        s.sendall(b\"12345\"); print(s.makefile().read())";
    sandbox.write_file("/tmp/connect.py", connect.as_bytes()).await.expect("writes");
    assert_eq!(run(&*sandbox, "python3 /tmp/connect.py").await, "hello 12345\n");
    let origins = subject.egress.origins();
    assert!(origins.iter().any(|origin| origin.sandbox == to.id && origin.session == to.fence.session));
    assert!(origins.iter().all(|origin| origin.sandbox != before), "{origins:?}");
    sandbox.destroy().await.expect("destroys");
}

pub async fn claims_work_with_and_without_blanks(subject: &Subject) {
    for blanks in [0, 2] {
        subject.provider.set_blanks(blanks).await.expect("are made");
        assert_eq!(subject.provider.ready_blanks(), blanks);
        for _ in 0..3 {
            let mut spec = subject.spec();
            spec.hostname = "greenroom".into();
            let sandbox = subject.claim_with(spec).await;
            assert_eq!(run(&*sandbox, "echo here; cat /proc/sys/kernel/hostname").await, "here\ngreenroom\n");
            sandbox.destroy().await.expect("destroys");
        }
    }
    let refused = subject.provider.set_blanks(100_000).await;
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
}

pub async fn many_claims_at_once_are_all_served(subject: &Subject) {
    let claims = (0..24).map(|_| async {
        let sandbox = subject.claim().await;
        assert_eq!(run(&*sandbox, "echo $GREETING").await, "from the claim\n");
        sandbox.destroy().await.expect("destroys");
    });
    let mut tasks = Vec::new();
    for claim in claims {
        tasks.push(Box::pin(claim));
    }
    // All in one task, and all under way at the same time.
    std::future::poll_fn(|context| {
        tasks.retain_mut(|task| task.as_mut().poll(context).is_pending());
        if tasks.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

pub async fn further_ports_lead_out_where_they_are_asked_for(subject: &Subject) {
    let mut spec = subject.spec();
    spec.egress_ports = vec![5432, 6379];
    let session = spec.fence.session.clone();
    let sandbox = subject.claim_with(spec).await;
    let script = "import socket\nfor address in ((\"203.0.113.7\", 5432), (\"2001:db8::7\", 6379)):\n  \
        s = socket.create_connection(address, 10); s.sendall(b\"12345\"); print(s.makefile().read())";
    sandbox.write_file("/tmp/connect.py", script.as_bytes()).await.expect("writes");
    assert_eq!(run(&*sandbox, "python3 /tmp/connect.py").await, "hello 12345\nhello 12345\n");
    let origins = subject.egress.origins();
    let seen = origins.into_iter().filter(|origin| origin.session == session);
    let seen: Vec<String> = seen.map(|origin| origin.destination.to_string()).collect();
    assert_eq!(seen, ["203.0.113.7:5432", "[2001:db8::7]:6379"]);
    sandbox.destroy().await.expect("destroys");
}

pub async fn a_frozen_sandbox_stands_still_until_the_thaw(subject: &Subject) {
    let sandbox = subject.claim().await;
    let ticking = "i=0; while :; do i=$((i+1)); echo $i > /workspace/ticks; done";
    run(&*sandbox, &format!("({ticking}) > /dev/null 2>&1 &")).await;
    sandbox.freeze().await.expect("freezes");
    let mut late = Box::pin(run(&*sandbox, "echo late"));
    assert!(timeout(A_WHILE, &mut late).await.is_err(), "a frozen sandbox answers");
    sandbox.thaw().await.expect("thaws");
    assert_eq!(timeout(PATIENCE, late).await.expect("goes on"), "late\n");
    let script = "a=$(cat /workspace/ticks); while [ \"$a\" = \"$(cat /workspace/ticks)\" ]; do :; done";
    run(&*sandbox, script).await;
    sandbox.freeze().await.expect("freezes again");
    timeout(PATIENCE, sandbox.destroy()).await.expect("a frozen sandbox ends").expect("destroys");
}

pub async fn what_a_sandbox_uses_is_counted_where_that_is_possible(subject: &Subject) {
    let sandbox = subject.claim().await;
    let usage = sandbox.usage().await.expect("answers");
    let entries = subject.provider.capabilities().entries;
    let can = |name: &str| entries.iter().any(|entry| entry.name == name && entry.is_available);
    assert_eq!(usage.memory_bytes.is_some_and(|bytes| bytes > 0), can("memory_limit"), "{usage:?}");
    assert!(usage.processes.is_none_or(|count| count >= 1), "{usage:?}");
    let (output, _) = finish(&*sandbox, shell("hold", "sleep 1000 > /dev/null 2>&1 & echo up")).await;
    assert_eq!(output, "up\n");
    let left = sandbox.page_out().await.expect("answers");
    assert!(can("page_out") || left == 0, "{left} bytes left memory");
    assert_eq!(run(&*sandbox, "echo alive").await, "alive\n");
    sandbox.destroy().await.expect("destroys");
}
