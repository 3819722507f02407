//! The provider of this machine against the contract: as root, and as an ordinary user.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use greenroom_sandbox::contract;
use support::{mode, with_subject};

macro_rules! promises {
    ($($name:ident),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            with_subject(async |subject| contract::$name(subject).await).await;
        })*
    };
}

promises! {
    a_run_gives_its_output_and_exit_code,
    a_run_sees_its_environment_directory_and_input,
    a_missing_program_is_not_started,
    a_call_never_runs_twice,
    output_past_the_limit_is_counted_and_dropped,
    files_are_written_read_and_listed,
    a_search_finds_names_and_lines,
    a_workspace_outlives_its_sandbox,
    a_suspended_sandbox_becomes_a_layer,
    an_older_owner_is_refused,
    a_destroyed_sandbox_is_forgotten,
    a_snapshot_begins_any_number_of_workspaces_and_is_not_changed_by_them,
    a_workspace_that_holds_files_ignores_what_it_could_begin_from,
    a_snapshot_of_a_busy_sandbox_is_one_instant,
    a_snapshot_never_replaces_what_is_there,
    a_run_past_its_time_is_ended,
    a_cancelled_run_takes_its_grandchildren_along,
    a_background_process_does_not_hold_the_exit_up,
    a_link_to_a_host_path_stays_inside,
    there_is_no_interface_but_lo,
    connections_arrive_with_their_destination,
    memory_past_the_limit_ends_only_what_is_inside,
    a_fork_bomb_is_contained,
    nothing_inside_reaches_the_kernel_or_other_namespaces,
    a_sandbox_is_given_to_another_owner,
    an_outdated_owner_is_given_nothing,
    only_one_of_two_owners_gets_a_sandbox,
    a_given_sandbox_keeps_its_processes_and_changes_its_names,
    claims_work_with_and_without_blanks,
    many_claims_at_once_are_all_served,
    further_ports_lead_out_where_they_are_asked_for,
    a_frozen_sandbox_stands_still_until_the_thaw,
    what_a_sandbox_uses_is_counted_where_that_is_possible,
    containers_inside_are_refused_and_a_changed_root_is_not,
    a_run_that_only_reads_writes_nothing_but_below_tmp,
    a_run_that_only_reads_finds_no_other_way_to_change_a_file,
    a_terminal_runs_a_shell_and_tells_how_it_ended,
    a_terminal_without_its_program_says_so,
    a_terminal_call_is_never_repeated,
    a_terminal_is_one_and_follows_its_size,
    a_terminal_nobody_holds_is_hung_up,
    at_most_32_terminals_are_open_at_a_time,
    a_terminal_is_bounded_both_ways,
    nothing_listens_at_first,
    a_port_inside_is_reached_from_outside,
    changes_below_a_directory_are_told,
    new_directories_are_watched_without_a_gap,
    what_can_be_made_again_is_not_watched,
    a_watch_that_misses_changes_says_so,
    a_watch_past_a_bound_names_it,
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_the_host_is_visible() {
    with_subject(async |subject| {
        let data = subject.scratch.join("greenroom.db");
        std::fs::write(&data, "canary").unwrap();
        let mut canaries = Canaries(vec![data]);
        for directory in ["/root", "/etc", "/usr/local/etc", "/opt", "/var", "/srv", "/home"] {
            canaries.plant(directory);
        }
        contract::no_secret_of_the_host_is_visible(subject, &canaries.0).await;
    })
    .await;
}

/// Files of mode 0600 on the host, removed again.
struct Canaries(Vec<std::path::PathBuf>);

impl Canaries {
    /// Where this user may write.
    fn plant(&mut self, directory: &str) {
        use std::os::unix::fs::OpenOptionsExt;
        let path = std::path::Path::new(directory).join(format!("greenroom-canary-{}", std::process::id()));
        let mut options = std::fs::OpenOptions::new();
        if let Ok(mut file) = options.write(true).create_new(true).mode(0o600).open(&path) {
            std::io::Write::write_all(&mut file, b"canary").unwrap();
            self.0.push(path);
        }
    }
}

impl Drop for Canaries {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn host_tools_run_inside() {
    with_subject(async |subject| {
        let tools = greenroom_sandboxd::host_tool_binds();
        let mut spec = subject.spec();
        spec.binds = tools.binds;
        spec.env = tools.env;
        let sandbox = subject.claim_with(spec).await;
        let found = contract::run(
            &*sandbox,
            "for tool in cargo python3 git; do command -v $tool && $tool --version; done; true",
        )
        .await;
        assert!(found.contains("git version"), "{found}");
        if std::env::var_os("HOME")
            .is_some_and(|home| std::path::Path::new(&home).join(".cargo/bin/cargo").exists())
        {
            assert!(found.contains("/opt/greenroom/tools/cargo/bin/cargo\ncargo 1."), "{found}");
        }
        sandbox.destroy().await.unwrap();
    })
    .await;
}

/// Those that an installation of a further package triggers need them.
#[tokio::test(flavor = "multi_thread")]
async fn packages_of_the_host_find_the_directories_of_their_state() {
    let lists = "cat /var/lib/dpkg/info/*.list | grep '^/var/' | sort -u";
    let on_host = std::process::Command::new("sh").args(["-c", lists]).output().unwrap();
    let on_host = String::from_utf8(on_host.stdout).unwrap();
    let mine = |path: &&str| std::fs::symlink_metadata(path).is_ok_and(|facts| facts.is_dir());
    let wanted: Vec<&str> = on_host.lines().filter(mine).collect();
    with_subject(async |subject| {
        let sandbox = subject.claim().await;
        let script =
            format!("for d in {}; do test -d $d || echo $d is missing; done; echo looked", wanted.join(" "));
        assert_eq!(contract::run(&*sandbox, &script).await, "looked\n");
        let contents =
            "find /var/lib -mindepth 1 \\( -path /var/lib/dpkg -o -path /var/lib/apt \\) -prune -o ! -type d -print";
        assert_eq!(contract::run(&*sandbox, contents).await, "", "they are empty");
        sandbox.destroy().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by what_the_server_ignores_is_not_ignored_inside"]
async fn signals_of_a_program() {
    with_subject(async |subject| {
        let sandbox = subject.claim().await;
        let ignored = contract::run(&*sandbox, "grep -E '^Sig(Ign|Blk)' /proc/self/status").await;
        assert_eq!(ignored, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
        sandbox.destroy().await.unwrap();
    })
    .await;
}

/// As under `nohup`, or in the background of a shell.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_ignores_is_not_ignored_inside() {
    let mut tests = tokio::process::Command::new("/bin/sh");
    tests.args(["-c", r#"trap "" HUP INT USR1; exec "$0" --ignored --exact signals_of_a_program"#]);
    let run = tests.arg(std::env::current_exe().unwrap()).kill_on_drop(true).output();
    let output = tokio::time::timeout(contract::PATIENCE, run).await.expect("ends in time").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// All promises of this file once more, by a copy of this program without any right.
#[tokio::test(flavor = "multi_thread")]
async fn as_an_ordinary_user_the_same_promises_hold() {
    use std::os::unix::fs::{PermissionsExt, chown};
    const NOBODY: u32 = 65_534;
    if std::env::var_os("GREENROOM_TEST_AS_USER").is_some() || std::fs::read_dir("/root").is_err() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let program = home.path().join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    chown(home.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let mut tests = tokio::process::Command::new(&program);
    tests
        .args(["--test-threads", "2"])
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir(home.path())
        .env("HOME", home.path())
        .env("TMPDIR", home.path())
        .env("GREENROOM_TEST_AS_USER", "1");
    let output = tokio::time::timeout(contract::PATIENCE * 3, tests.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// In a mount namespace without version 1: as on a machine that has only the unified tree, with what controllers that has.
#[tokio::test(flavor = "multi_thread")]
async fn on_version_two_of_control_groups_alone_the_same_promises_hold() {
    const PROMISES: [&str; 8] = [
        "groups_are_made_where_the_machine_has_them",
        "a_run_gives_its_output_and_exit_code",
        "a_cancelled_run_takes_its_grandchildren_along",
        "a_frozen_sandbox_stands_still_until_the_thaw",
        "a_snapshot_of_a_busy_sandbox_is_one_instant",
        "a_given_sandbox_keeps_its_processes_and_changes_its_names",
        "claims_work_with_and_without_blanks",
        "what_a_sandbox_uses_is_counted_where_that_is_possible",
    ];
    let has_v2 = std::fs::read_to_string("/proc/self/mounts").unwrap().contains(" cgroup2 ");
    if !has_v2 || std::env::var_os("GREENROOM_TEST_AS_USER").is_some() || std::fs::read_dir("/root").is_err()
    {
        return;
    }
    let mut tests = tokio::process::Command::new("unshare");
    let script = r#"umount -a -t cgroup && exec "$0" "$@""#;
    tests.args(["--mount", "/bin/sh", "-c", script]).arg(std::env::current_exe().unwrap());
    tests.args(["--test-threads", "2", "--exact"]).args(PROMISES).kill_on_drop(true);
    let output = tokio::time::timeout(contract::PATIENCE * 2, tests.output()).await.unwrap().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains(&format!("{} passed", PROMISES.len())), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_made_where_the_machine_has_them() {
    if std::env::var_os("GREENROOM_TEST_AS_USER").is_some() || mode() == greenroom_sandboxd::Mode::User {
        return;
    }
    with_subject(async |subject| {
        let sandbox = subject.claim().await;
        assert!(support::groups_of(std::process::id()) > 0);
        sandbox.destroy().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_user_is_told_exactly_these_gaps() {
    if std::env::var_os("GREENROOM_TEST_AS_USER").is_none() {
        return;
    }
    with_subject(async |subject| {
        let capabilities = subject.provider.capabilities();
        assert_eq!(capabilities.mode, "user");
        let machine = greenroom_sandboxd::MACHINE_ENTRIES;
        let gaps = capabilities.entries.iter().filter(|entry| !entry.is_available);
        let mut gaps: Vec<&str> =
            gaps.map(|entry| entry.name.as_str()).filter(|name| !machine.contains(name)).collect();
        gaps.sort_unstable();
        assert_eq!(gaps, ["cpu_limit", "disk_limit", "id_range", "memory_limit", "page_out"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn root_can_change_system_directories_and_the_host_does_not_notice() {
    if std::env::var_os("GREENROOM_TEST_AS_USER").is_some() {
        return;
    }
    with_subject(async |subject| {
        let sandbox = subject.claim().await;
        let script = "set -e; for d in /usr/bin /usr/lib /usr/local/bin /opt /etc /var/lib/dpkg /var/cache/apt /root; do \
            echo x > $d/greenroom-test-file; done; rm /usr/bin/env; chmod 700 /usr/share; chown 33:33 /usr/local/bin/greenroom-test-file; \
            mkdir -p /var/lib/new /usr/local/share/new; dpkg -l dpkg > /dev/null; getent passwd www-data > /dev/null; \
            su -s /bin/sh www-data -c 'test $(id -un) = www-data'";
        contract::run(&*sandbox, script).await;
        assert!(!std::path::Path::new("/usr/bin/greenroom-test-file").exists());
        assert!(std::path::Path::new("/usr/bin/env").exists());
        sandbox.destroy().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unpacked_root_is_a_base_too() {
    with_subject(async |subject| {
        let root = subject.scratch.join("root");
        for directory in ["bin", "etc", "lib", "lib64"] {
            std::fs::create_dir_all(root.join(directory)).unwrap();
        }
        let copied = std::process::Command::new("sh")
            .args(["-c", "cp /bin/sh \"$0/bin/sh\"; ldd /bin/sh | grep -o '/[^ ]*' | while read f; do mkdir -p \"$0$(dirname $f)\"; cp $f \"$0$f\"; done"])
            .arg(&root)
            .status()
            .unwrap();
        assert!(copied.success());
        let mut spec = subject.spec();
        spec.base = greenroom_sandbox::Base::Directory { path: root.clone() };
        let sandbox = subject.claim_with(spec).await;
        let output = contract::run(&*sandbox, "echo /*; echo new > /etc/mine; read name < /etc/mine; echo $name").await;
        assert!(output.contains("/workspace") && output.ends_with("new\n") && !output.contains("/usr/share"), "{output}");
        assert!(!root.join("etc/mine").exists());
        sandbox.destroy().await.unwrap();
    })
    .await;
}
