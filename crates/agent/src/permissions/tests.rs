//! What rules say of calls, and above all of shell lines that hide what they run.

use super::*;

fn rule(permission: &str, pattern: &str, action: Action) -> Rule {
    Rule { permission: permission.into(), pattern: pattern.into(), action }
}

fn shell(line: &str) -> Needs {
    Needs { permission: "bash".into(), subjects: Subjects::Shell(line.into()) }
}

fn path(permission: &str, path: &str) -> Needs {
    Needs { permission: permission.into(), subjects: Subjects::Each(vec![path.into()]) }
}

fn installation(rules: Vec<Rule>) -> Permissions {
    Permissions { installation: rules, ..Permissions::default() }
}

/// Everything but `rm` and a forced push.
fn no_removal() -> Permissions {
    installation(vec![rule("bash", "rm *", Action::Deny), rule("bash", "git push --force*", Action::Ask)])
}

/// Only looking.
fn only_a_list() -> Permissions {
    let allowed = ["ls *", "cat *", "git status", "git diff *", "cd *", "grep *", "echo *"];
    let allowed = allowed.map(|pattern| rule("bash", pattern, Action::Allow));
    installation([vec![rule("bash", "*", Action::Deny)], allowed.to_vec()].concat())
}

fn action(permissions: &Permissions, line: &str) -> Action {
    permissions.judge(&shell(line)).action
}

#[test]
fn without_rules_everything_is_allowed() {
    for line in ["rm -rf /", "((((", "eval $x"] {
        assert_eq!(action(&Permissions::default(), line), Action::Allow);
        let allows = installation(vec![rule("*", "*", Action::Allow), rule("edit", "*", Action::Deny)]);
        assert_eq!(action(&allows, line), Action::Allow);
    }
}

#[test]
fn every_command_of_a_line_is_judged() {
    let denied = [
        "rm -rf y",
        "rm",
        "cd x && rm -rf y",
        "cd x; rm -rf y",
        "cd x || rm y",
        "ls | rm y",
        "ls |& rm y",
        "ls & rm y",
        "ls\nrm y",
        "(cd x; rm y)",
        "{ cd x; rm y; }",
        "echo $(rm y)",
        "echo `rm y`",
        "echo \"$(rm y)\"",
        "echo \"a `rm y` b\"",
        "echo ${x:-$(rm y)}",
        "x=$(rm y)",
        "x=$(rm y) ls",
        "export X=$(rm y)",
        "A=1 B=2 rm y",
        "diff <(ls) <(rm y)",
        "ls > $(rm y)",
        "cat <<EOF\n$(rm y)\nEOF",
        "cat <<EOF && rm y\nhello\nEOF",
        "cat <<EOF | rm y\nhello\nEOF",
        "cat <<< \"$(rm y)\"",
        "if ls; then rm y; fi",
        "if rm y; then ls; fi",
        "for f in *; do rm \"$f\"; done",
        "while read f; do rm $f; done < list",
        "case $x in a) rm y;; esac",
        "f() { rm y; }; f",
        "! rm y",
        "[[ -n $(rm y) ]]",
        "echo $(( $(rm y) + 1 ))",
        "r\\m y",
        "'rm' y",
        "\"rm\" y",
        "r''m y",
        "r\\\nm y",
        "echo 'x' && r\\\nm y",
        "cat <<'EOF' && rm y\nx \\\nEOF",
        "/bin/rm y",
        "../../bin/rm y",
        "sh -c 'rm y'",
        "bash -lc 'cd x && rm y'",
        "bash -o pipefail -c 'rm y'",
        "sh -c \"sh -c 'rm y'\"",
        "eval rm y",
        "eval 'rm y'",
        "eval \"cd x; rm y\"",
        "xargs rm",
        "ls | xargs -n 1 -I{} rm {}",
        "ls | xargs -0 rm -f",
        "find . -name x -exec rm {} \\;",
        "find . -exec ls {} \\; -exec rm {} +",
        "env rm y",
        "env -u HOME A=1 rm y",
        "sudo -u root rm y",
        "timeout 5 rm y",
        "timeout -k 1 5 nice -n 3 rm y",
        "nohup rm y &",
        "command rm y",
        "exec rm y",
        "time rm y",
        "trap 'rm y' EXIT",
        "watch rm y",
        "rm $x",
        "rm -rf \"$HOME\"/*",
    ];
    for line in denied {
        assert_eq!(action(&no_removal(), line), Action::Deny, "{line}");
    }
}

#[test]
fn what_only_speaks_of_a_command_is_allowed() {
    let allowed = [
        "ls",
        "echo rm y",
        "echo 'a; rm y'",
        "echo \"a && rm y\"",
        "echo '$(rm y)'",
        "cat <<'EOF'\n$(rm y)\nEOF",
        "grep -r 'rm ' .",
        "ls # rm y",
        "git push origin main",
        "rmdir x",
        "command -v rm",
        "cargo test && git status",
        "bash script.sh",
        "for f in a b; do echo $f; done",
    ];
    for line in allowed {
        assert_eq!(action(&no_removal(), line), Action::Allow, "{line}");
    }
}

#[test]
fn what_cannot_be_known_asks_and_is_denied_where_only_a_list_is_allowed() {
    let unknown = [
        "$cmd y",
        "$(echo rm) y",
        "r{m,x} y",
        "/bin/r? y",
        "eval $x",
        "eval \"$x\"",
        "sh -c \"$x\"",
        "sh -c \"rm$x\"",
        "curl -s x | sh",
        "curl -s x | bash -s --",
        "bash <<EOF\nrm y\nEOF",
        "bash <<< 'ls'",
        "if then fi",
        "echo 'unfinished",
        "((((",
        "env -S 'rm y'",
        "git push $how",
        "git push {--force,}",
        "$'\\x72m' y",
    ];
    for line in unknown {
        assert_eq!(action(&no_removal(), line), Action::Ask, "{line}");
        assert_eq!(action(&only_a_list(), line), Action::Deny, "{line}");
    }
}

#[test]
fn a_list_allows_what_is_on_it_and_nothing_beside() {
    for line in ["ls", "cd x && git diff -w | grep y", "cat $file", "echo $(cat x)", "ls *.rs"] {
        assert_eq!(action(&only_a_list(), line), Action::Allow, "{line}");
    }
    for line in ["ls; make", "cat x | tee y", "echo $(make)", "git push", "xargs ls", "> x", "/usr/bin/ls"] {
        assert_eq!(action(&only_a_list(), line), Action::Deny, "{line}");
    }
}

#[test]
fn hostile_lines_come_to_an_end() {
    let lines = [
        "(".repeat(20_000),
        "$(".repeat(10_000),
        "`".repeat(30_000),
        "if ".repeat(10_000),
        "a;".repeat(15_000),
        "sh -c ".repeat(5_000),
        "x".repeat(50_000),
        format!("{}ls{}", "$(".repeat(3_000), ")".repeat(3_000)),
        "ls\0rm".to_owned(),
        String::new(),
    ];
    for line in lines {
        assert!(action(&no_removal(), &line) >= Action::Ask, "{:.40}", line);
    }
}

#[test]
fn the_last_rule_that_matches_counts() {
    let rules = vec![
        rule("*", "*", Action::Ask),
        rule("edit", "*", Action::Allow),
        rule("edit", "migrations/*", Action::Deny),
        rule("edit", "migrations/new/*", Action::Ask),
    ];
    let permissions = installation(rules);
    let cases = [
        ("edit", "src/x", Action::Allow),
        ("edit", "migrations/1.sql", Action::Deny),
        ("edit", "migrations/new/2.sql", Action::Ask),
        ("read", "src/x", Action::Ask),
    ];
    for (permission, at, expected) in cases {
        assert_eq!(permissions.judge(&path(permission, at)).action, expected, "{permission} {at}");
    }
}

#[test]
fn a_repository_only_makes_it_stricter() {
    let permissions = Permissions {
        installation: vec![rule("bash", "git push *", Action::Deny), rule("bash", "make *", Action::Ask)],
        repository: vec![rule("*", "*", Action::Allow), rule("edit", "*.lock", Action::Deny)],
        ..Permissions::default()
    };
    assert_eq!(action(&permissions, "git push"), Action::Deny);
    assert_eq!(action(&permissions, "make all"), Action::Ask);
    assert_eq!(action(&permissions, "ls"), Action::Allow);
    assert_eq!(permissions.judge(&path("edit", "Cargo.lock")).action, Action::Deny);
}

#[test]
fn a_grant_makes_an_ask_an_allow_and_nothing_of_a_deny() {
    let asks = vec![rule("bash", "git *", Action::Ask), rule("bash", "git push --force*", Action::Deny)];
    let mut permissions = installation(asks);
    let verdict = permissions.judge(&shell("cd x && git push origin main && git fetch $from"));
    assert_eq!(verdict.subjects, ["git push origin main", "git fetch $from"]);
    let patterns: Vec<_> = verdict.grants.iter().map(|grant| grant.pattern.as_str()).collect();
    assert_eq!(patterns, ["git push *", "git fetch *"]);
    permissions.grants = verdict.grants;
    assert_eq!(action(&permissions, "git push origin other"), Action::Allow);
    assert_eq!(action(&permissions, "git fetch $other"), Action::Allow);
    assert_eq!(action(&permissions, "git push --force"), Action::Deny);
    assert_eq!(action(&permissions, "git rebase x"), Action::Ask);
}

#[test]
fn a_grant_is_no_wider_than_the_command() {
    let asks = installation(vec![rule("bash", "*", Action::Ask)]);
    let grants = |line: &str| -> Vec<String> {
        asks.judge(&shell(line)).grants.into_iter().map(|grant| grant.pattern).collect()
    };
    assert_eq!(grants("npm run build --fast"), ["npm run build *"]);
    assert_eq!(grants("rm -rf y"), ["rm -rf y"]);
    assert_eq!(grants("rm $x"), Vec::<String>::new());
    assert_eq!(grants("echo '*'"), Vec::<String>::new(), "a star of the command would be one of the pattern");
    assert_eq!(grants("eval $x && git status"), Vec::<String>::new());
    let edits = installation(vec![rule("edit", "migrations/*", Action::Ask)]);
    let verdict = edits.judge(&path("edit", "migrations/1.sql"));
    assert_eq!(verdict.grants, [Grant { permission: "edit".into(), pattern: "migrations/*".into() }]);
}

#[test]
fn a_tool_of_which_every_use_is_denied_is_hidden() {
    let hidden = |rules: Vec<Rule>| installation(rules).is_hidden("bash");
    assert!(hidden(vec![rule("bash", "*", Action::Deny)]));
    assert!(hidden(vec![rule("bash", "ls *", Action::Allow), rule("*", "*", Action::Deny)]));
    assert!(hidden(vec![rule("bash", "*", Action::Deny), rule("bash", "rm *", Action::Deny)]));
    assert!(!hidden(vec![rule("bash", "*", Action::Deny), rule("bash", "ls *", Action::Allow)]));
    assert!(!hidden(vec![rule("bash", "rm *", Action::Deny)]));
    assert!(!hidden(vec![rule("edit", "*", Action::Deny)]));
    let repository = vec![rule("bash", "*", Action::Deny)];
    assert!(Permissions { repository, ..Permissions::default() }.is_hidden("bash"));
}
