//! A tree with everything that overlay shows by other means than by a plain file, made by the steps of a recipe, and what
//! a sandbox sees of it.

use super::Machine;
use greenroom_image::ImageManifest;
use greenroom_sandbox::ExitReason;

/// A step for each script.
pub fn recipe<S: AsRef<str>>(scripts: impl IntoIterator<Item = S>) -> String {
    let steps = scripts.into_iter().enumerate();
    let step = |(number, script): (usize, S)| {
        format!("[[steps]]\nname = \"s{number}\"\nrun = '''{}'''\ninputs = [\"lock\"]\n", script.as_ref())
    };
    steps.map(step).collect()
}

pub const SCRIPTS: [&str; 5] = [
    "mkdir -p t/opaque t/gone/deep t/kept t/turned && cd t && echo low > opaque/low && echo a > gone/deep/a && \
     echo one > one && echo both > kept/both && echo x > file-to-directory && echo d > turned/d && \
     ln -s one link && ln -s /nowhere dangling && mkfifo fifo && truncate -s 1000000 holes && echo end >> holes",
    "cd t && chmod 4751 one && mkdir closed && chmod 1733 closed && touch -d 2001-02-03T04:05:06Z one && \
     python3 -c 'import os; os.setxattr(\"one\", \"user.note\", b\"kept\")'",
    "cd t && rm -r gone && rm -r opaque && mkdir opaque && echo high > opaque/high && rm file-to-directory && \
     mkdir file-to-directory && echo in > file-to-directory/in && rm -r turned && echo now > turned",
    "cd t && ln kept/both kept/other && ln kept/both second && chown 7:8 kept/both && echo more >> kept/both",
    "cd t && rm second && mv opaque/high moved && rm -r closed && mkdir closed && chmod 711 closed && \
     chown 5:6 closed && mkdir -p /opt/here && echo opt > /opt/here/file && rm -f /opt/nothing",
];

/// One line for each name below the two volumes that the steps wrote to; a file of several names is said by its first.
const LIST: &str = r#"python3 - <<'END'
import os, stat, hashlib
names_of = {}
for top in ["/workspace", "/opt/here"]:
    for directory, names, files in os.walk(top):
        names.sort()
        if ".git" in names:
            names.remove(".git")
        for name in sorted(names + files) + ["."]:
            path = os.path.join(directory, name)
            facts = os.lstat(path)
            is_file = stat.S_ISREG(facts.st_mode)
            line = [path, oct(facts.st_mode), facts.st_uid, facts.st_gid, facts.st_mtime_ns]
            line += [names_of.setdefault(facts.st_ino, path), facts.st_size] if is_file else []
            line += [os.readlink(path)] if stat.S_ISLNK(facts.st_mode) else []
            if not stat.S_ISLNK(facts.st_mode):
                line += sorted((key, os.getxattr(path, key)) for key in os.listxattr(path))
            if is_file:
                line.append(hashlib.sha256(open(path, "rb").read()).hexdigest())
            print(*line)
END"#;

pub async fn listing(machine: &Machine, image: &ImageManifest) -> String {
    let (exit, output) = machine.run(image, LIST).await;
    assert_eq!(exit, ExitReason::Code { code: 0 }, "{output}");
    output
}

pub fn has_everything(listing: &str) {
    for known in
        ["t/moved", "t/opaque/.", "user.note", "0o104751", "/opt/here/file", "t/file-to-directory/in"]
    {
        assert!(listing.contains(known), "{known}\n{listing}");
    }
    let other = listing.lines().find(|line| line.starts_with("/workspace/t/kept/other ")).unwrap();
    assert!(other.contains(" /workspace/t/kept/both "), "one file of two names: {other}");
    for gone in ["t/gone", "t/opaque/low", "t/second"] {
        assert!(!listing.contains(gone), "{gone}\n{listing}");
    }
}
