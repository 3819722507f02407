//! What `git blame --porcelain` prints, after a line with the commit that was looked at. Written by a sandbox: anything
//! that is not of its form is refused.

use greenroom_domain::CommitHash;
use std::collections::HashMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) commit: CommitHash,
    /// Of the commit; as the commit says.
    pub(super) author: String,
    pub(super) summary: String,
    pub(super) text: String,
}

#[derive(Clone, Default)]
struct Header {
    author: String,
    summary: String,
}

/// `None`: it is not what git prints.
pub(super) fn read(output: &str) -> Option<(CommitHash, Vec<Line>)> {
    let (tip, output) = output.split_once('\n')?;
    let mut headers: HashMap<CommitHash, Header> = HashMap::new();
    let mut lines = vec![];
    // Not `lines()`: a carriage return belongs to the text.
    let mut rest = output.split_terminator('\n');
    while let Some(first) = rest.next() {
        let mut words = first.split(' ');
        let commit: CommitHash = words.next()?.parse().ok()?;
        let mut numbers = words.map(str::parse::<u32>);
        let (_, number) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        if usize::try_from(number).ok()? != lines.len() + 1 {
            return None;
        }
        let header = headers.entry(commit.clone()).or_default();
        let text = loop {
            let line = rest.next()?;
            if let Some(text) = line.strip_prefix('\t') {
                break text;
            }
            match line.split_once(' ') {
                Some(("author", author)) => author.clone_into(&mut header.author),
                Some(("summary", summary)) => summary.clone_into(&mut header.summary),
                _ => {}
            }
        };
        let Header { author, summary } = header.clone();
        lines.push(Line { commit, author, summary, text: text.to_owned() });
    }
    Some((tip.parse().ok()?, lines))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ONE: &str = "1111111111111111111111111111111111111111";
    const TWO: &str = "2222222222222222222222222222222222222222";

    #[test]
    fn a_line_has_its_commits_header_also_when_that_was_said_before() {
        let output = format!(
            "{TWO}\n{ONE} 1 1 1\nauthor Ada\nauthor-mail <a@b>\nsummary First\nboundary\nfilename a\n\tone\r\n\
             {TWO} 2 2 1\nauthor Ben\nsummary Then\nfilename a\n\t\n{ONE} 2 3 1\n\tauthor of nothing\n"
        );
        let (tip, lines) = read(&output).unwrap();
        assert_eq!(tip.as_str(), TWO);
        let seen: Vec<_> = lines.iter().map(|line| (line.author.as_str(), line.text.as_str())).collect();
        assert_eq!(seen, [("Ada", "one\r"), ("Ben", ""), ("Ada", "author of nothing")]);
        assert_eq!((lines[2].commit.as_str(), lines[2].summary.as_str()), (ONE, "First"));
    }

    #[test]
    fn an_empty_file_has_no_lines() {
        assert_eq!(read(&format!("{ONE}\n")).unwrap().1, []);
    }

    #[test]
    fn lines_out_of_order_and_what_is_cut_off_are_refused() {
        for wrong in [
            "",
            ONE,
            "no commit\n",
            &format!("{ONE}\n{TWO} 1 2 1\n\tx\n"),
            &format!("{ONE}\n{TWO} 1 1 1\nauthor Ada\n"),
            &format!("{ONE}\n{TWO} 1\n\tx\n"),
            &format!("{ONE}\n{TWO} 1 99999999999999999999 1\n\tx\n"),
        ] {
            assert!(read(wrong).is_none(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_sandbox_prints_is_read_or_refused(tail in "([12]{40} [0-3] [0-3]( 1)?\n|(author|summary|x) .{0,3}\n|\t.{0,3}\n){0,12}") {
            let output = format!("{ONE}\n{tail}");
            if let Some((_, lines)) = read(&output) {
                prop_assert!(lines.len() <= output.matches('\t').count());
            }
        }
    }
}
