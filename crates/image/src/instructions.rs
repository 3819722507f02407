//! What a repository says to agents: `AGENTS.md` and the index of its skills. Read from the forge at the image's
//! commit, never from a sandbox's tree, so that the first request of a session needs no sandbox. The text is untrusted:
//! it grants nothing.

use greenroom_domain::{CommitHash, RepositoryId};
use greenroom_forge::{Forge, Result};
use serde::{Deserialize, Serialize};

/// Bounds; what is past them is left out and said in `notes`.
pub const AGENTS_BYTES: usize = 64 * 1024;
const READ_BYTES: u64 = 1024 * 1024;
const SKILLS: usize = 64;
const NAME_CHARS: usize = 64;
const DESCRIPTION_CHARS: usize = 1024;
const SKILL_DIRECTORIES: [&str; 3] = [".greenroom/skills/", ".agents/skills/", ".claude/skills/"];

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instructions {
    /// The root's `AGENTS.md`, or `CLAUDE.md` where there is none; at most 64 KiB.
    pub agents_md: Option<String>,
    pub skills: Vec<Skill>,
    /// Sentences about what was cut or could not be read.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// One `SKILL.md`; the agent reads the rest of it in the sandbox when it needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skill {
    pub name: String,
    pub description: String,
    /// From the repository's root.
    pub path: String,
}

/// For a commit without an image.
pub async fn read(forge: &dyn Forge, repository: RepositoryId, commit: &CommitHash) -> Result<Instructions> {
    let paths = forge.list_files(repository, commit, "").await?;
    read_among(forge, repository, commit, &paths).await
}

/// `paths` are all files of the commit.
pub(crate) async fn read_among(
    forge: &dyn Forge,
    repository: RepositoryId,
    commit: &CommitHash,
    paths: &[String],
) -> Result<Instructions> {
    let tree = Tree { forge, repository, commit, paths };
    let mut instructions = Instructions::default();
    for name in ["AGENTS.md", "CLAUDE.md"] {
        if let Some(text) = tree.read(name, &mut instructions.notes).await? {
            instructions.agents_md = Some(cut(name, text, &mut instructions.notes));
            break;
        }
    }
    let files = skill_files(paths);
    if files.len() > SKILLS {
        instructions.notes.push(format!("{} skills were found; the first {SKILLS} are listed.", files.len()));
    }
    for path in files.into_iter().take(SKILLS) {
        let Some(text) = tree.read(path, &mut instructions.notes).await? else { continue };
        let skill = skill(path, &text);
        // The directories are in order of precedence.
        if !instructions.skills.iter().any(|known| known.name == skill.name) {
            instructions.skills.push(skill);
        }
    }
    Ok(instructions)
}

struct Tree<'a> {
    forge: &'a dyn Forge,
    repository: RepositoryId,
    commit: &'a CommitHash,
    paths: &'a [String],
}

impl Tree<'_> {
    async fn read(&self, path: &str, notes: &mut Vec<String>) -> Result<Option<String>> {
        if !self.paths.iter().any(|known| known == path) {
            return Ok(None);
        }
        match self.forge.read_file(self.repository, self.commit, path, READ_BYTES).await {
            Ok(bytes) => Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())),
            Err(greenroom_forge::Error::Refused(problem)) => {
                notes.push(format!("{path} was left out: {}", problem.message));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

fn cut(name: &str, mut text: String, notes: &mut Vec<String>) -> String {
    if text.len() > AGENTS_BYTES {
        notes.push(format!("{name} has {} bytes; the first {AGENTS_BYTES} are used.", text.len()));
        text.truncate((0..=AGENTS_BYTES).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0));
    }
    text
}

/// `<directory>/<skill>/SKILL.md`, in order of precedence.
fn skill_files(paths: &[String]) -> Vec<&str> {
    let of = |directory: &'static str| {
        let mut files: Vec<&str> = paths
            .iter()
            .map(String::as_str)
            .filter(|path| {
                let rest = path.strip_prefix(directory).unwrap_or_default();
                rest.split_once('/').is_some_and(|(name, file)| !name.is_empty() && file == "SKILL.md")
            })
            .collect();
        files.sort_unstable();
        files
    };
    SKILL_DIRECTORIES.into_iter().flat_map(of).collect()
}

fn skill(path: &str, text: &str) -> Skill {
    let directory = path.rsplit('/').nth(1).unwrap_or(path);
    let field = |name| front_matter(text, name).filter(|value| !value.is_empty());
    Skill {
        name: field("name").unwrap_or_else(|| directory.to_owned()).chars().take(NAME_CHARS).collect(),
        description: field("description").unwrap_or_default().chars().take(DESCRIPTION_CHARS).collect(),
        path: path.to_owned(),
    }
}

/// One top-level text field between the `---` lines. Read by lines and not as YAML, because descriptions in the wild
/// hold unquoted colons that YAML refuses; quotes, folded blocks and continuation lines are understood.
fn front_matter(text: &str, name: &str) -> Option<String> {
    let mut lines = text.lines();
    if lines.next()?.trim_end() != "---" {
        return None;
    }
    let mut lines = lines.take_while(|line| line.trim_end() != "---");
    let first = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.trim().to_owned();
    let more = lines.take_while(|line| line.is_empty() || line.starts_with([' ', '\t'])).map(str::trim);
    let is_block = first.starts_with(['>', '|']) && first.len() <= 2;
    let words: Vec<String> = (!is_block)
        .then_some(first)
        .into_iter()
        .chain(more.map(str::to_owned))
        .filter(|line| !line.is_empty())
        .collect();
    Some(unquote(&words.join(" ")).to_owned())
}

fn unquote(text: &str) -> &str {
    ['"', '\''].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn front_matter_is_read_as_people_write_it() {
        let text =
            "---\nname: 'deploy'\ndescription: Use when: deploying\n  to staging\nextra: 1\n---\nname: no\n";
        let skill = skill(".greenroom/skills/x/SKILL.md", text);
        assert_eq!(
            (skill.name.as_str(), skill.description.as_str()),
            ("deploy", "Use when: deploying to staging")
        );
        let folded = "---\ndescription: >-\n  one\n  two\n---\n";
        let skill = super::skill(".claude/skills/fold/SKILL.md", folded);
        assert_eq!((skill.name.as_str(), skill.description.as_str()), ("fold", "one two"));
        assert_eq!(super::skill("a/b/SKILL.md", "no front matter").description, "");
    }

    #[test]
    fn only_skills_of_the_known_directories_are_listed() {
        let paths = [
            ".claude/skills/b/SKILL.md",
            ".greenroom/skills/a/SKILL.md",
            ".greenroom/skills/a/deep/SKILL.md",
            ".greenroom/skills/SKILL.md",
            "docs/skills/c/SKILL.md",
        ]
        .map(str::to_owned);
        assert_eq!(skill_files(&paths), [".greenroom/skills/a/SKILL.md", ".claude/skills/b/SKILL.md"]);
    }

    #[test]
    fn a_long_file_is_cut_at_a_character_and_said() {
        let mut notes = Vec::new();
        let text = cut("AGENTS.md", "é".repeat(AGENTS_BYTES), &mut notes);
        assert!(text.len() <= AGENTS_BYTES && text.len() > AGENTS_BYTES - 4);
        assert_eq!(notes.len(), 1);
    }
}
