//! Which permission a tool is for, and what a call does in the words of the rules.

use super::{Call, WORKSPACE, files, patch, terminal};
use crate::permissions::{Needs, Subjects};

/// The permission of a tool. Tools that are not named here have one of their own name.
pub(crate) fn permission_of(tool: &str) -> &str {
    match tool {
        "terminal" => "bash",
        "glob" | "grep" => "read",
        "write" | "apply_patch" => "edit",
        other => other,
    }
}

impl Call {
    /// `name` is the tool's.
    pub(crate) fn needs(&self, name: &str) -> Needs {
        let subjects = match self {
            Self::Bash(input) => Subjects::Shell(input.command.clone()),
            Self::Terminal(input) => match terminal::typed(input) {
                Some(line) => Subjects::Shell(line.to_owned()),
                None => Subjects::Each(vec![]),
            },
            Self::Read(input) => Subjects::Each(vec![subject(&input.path)]),
            Self::Write(input) => Subjects::Each(vec![subject(&input.path)]),
            Self::Edit(input) => Subjects::Each(vec![subject(&input.path)]),
            Self::Patch(input) => {
                Subjects::Each(patch::named_paths(input).iter().map(|path| subject(path)).collect())
            }
            Self::Glob(input) => Subjects::Each(vec![subject(input.path.as_deref().unwrap_or("."))]),
            Self::Grep(input) => Subjects::Each(vec![subject(input.path.as_deref().unwrap_or("."))]),
            Self::Publish(input) => Subjects::Each(vec![subject(&input.path)]),
            Self::OpenChange(input) => Subjects::Each(vec![input.title.clone()]),
            _ => Subjects::Each(vec![name.to_owned()]),
        };
        Needs { permission: permission_of(name).to_owned(), subjects }
    }
}

/// A path as rules have it: from the workspace where it is inside, with `..` resolved by its words.
fn subject(path: &str) -> String {
    let full = files::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut parts: Vec<&str> = Vec::new();
    for part in full.split('/').filter(|part| !part.is_empty()) {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let full = format!("/{}", parts.join("/"));
    match full.strip_prefix(WORKSPACE) {
        Some("") => ".".to_owned(),
        Some(inside) => inside.strip_prefix('/').map_or_else(|| full.clone(), str::to_owned),
        None => full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn needs(name: &str, input: Value) -> (String, Vec<String>) {
        let Needs { permission, subjects } = Call::parse(name, &input).unwrap().needs(name);
        match subjects {
            Subjects::Each(subjects) => (permission, subjects),
            Subjects::Shell(line) => (permission, vec![format!("$ {line}")]),
        }
    }

    #[test]
    fn a_call_is_told_in_the_words_of_the_rules() {
        let patch = "*** Begin Patch\n*** Update File: a/x.rs\n*** Move to: b/y.rs\n@@\n-a\n+b\n*** Delete File: c\n*** End Patch\n";
        let marked = format!("\u{feff}{}", patch.replace('\n', "\r\n"));
        let cases = [
            ("bash", json!({"command": "ls"}), "bash", vec!["$ ls"]),
            ("terminal", json!({"command": "ls"}), "bash", vec!["$ ls"]),
            ("terminal", json!({"terminal": 1, "input": "rm y\n"}), "bash", vec!["$ rm y\n"]),
            ("terminal", json!({"terminal": 1}), "bash", vec![]),
            ("read", json!({"path": "src/../.env"}), "read", vec![".env"]),
            ("read", json!({"path": "/etc/passwd"}), "read", vec!["/etc/passwd"]),
            ("read", json!({"path": "/workspace/../etc"}), "read", vec!["/etc"]),
            ("glob", json!({"pattern": "*"}), "read", vec!["."]),
            ("write", json!({"path": "./a", "content": ""}), "edit", vec!["a"]),
            ("apply_patch", json!({"patch": patch}), "edit", vec!["a/x.rs", "b/y.rs", "c"]),
            ("apply_patch", json!({"patch": marked}), "edit", vec!["a/x.rs", "b/y.rs", "c"]),
            ("open_change", json!({"title": "T", "body": "b"}), "open_change", vec!["T"]),
            ("todo", json!({"items": []}), "todo", vec!["todo"]),
        ];
        for (name, input, permission, subjects) in cases {
            let subjects = subjects.into_iter().map(str::to_owned).collect();
            assert_eq!(needs(name, input.clone()), (permission.to_owned(), subjects), "{name} {input}");
        }
    }
}
