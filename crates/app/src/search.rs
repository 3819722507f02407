//! Finding sessions by what was asked and answered in them.

use crate::access::onlooker;
use crate::sessions::view_of_row;
use crate::{App, Result, require};
use greenroom_directory::{MARK_BEGIN, MARK_END, PartKind, SearchQuery, SearchRow, WORDS};
use greenroom_domain::{ErrorCode, Person, Problem, RepositoryName, Role, SessionId};
use greenroom_wire::{FoundIn, SearchHit, SearchMatch, SnippetPart};
use std::collections::HashMap;

/// Sessions of one answer.
pub(crate) const FOUND: usize = 50;
/// Of one session.
const MATCHES: usize = 3;
const QUERY_CHARS: usize = 200;

impl App {
    /// Sessions in which each of these words is somewhere, the best first; the last word may be the beginning of one.
    /// Archived ones too. Only what the caller may see.
    pub async fn search(
        &self,
        caller: &Person,
        query: &str,
        repository: Option<&RepositoryName>,
        limit: usize,
    ) -> Result<Vec<SearchHit>> {
        require(caller, Role::Viewer)?;
        let words = words_of(query)?;
        let repository = match repository {
            Some(name) => Some(self.inner.repository_row(name).await?.id),
            None => None,
        };
        let onlooker = onlooker(caller);
        let rows = self.inner.directory.search(SearchQuery { onlooker, words, repository }).await?;
        Ok(hits_of(rows.into_iter(), limit.clamp(1, FOUND)))
    }
}

fn words_of(query: &str) -> Result<Vec<String>> {
    let long = query.chars().count();
    if long > QUERY_CHARS {
        let message = format!("The search has {long} characters; at most {QUERY_CHARS} are taken.");
        return Err(Problem::new(ErrorCode::TooLarge, message).hint("Search for fewer words."));
    }
    // What has no letter and no digit is in no index.
    let words = query.split_whitespace().filter(|word| word.chars().any(char::is_alphanumeric));
    let words: Vec<String> = words.map(|word| word.replace('\0', " ")).collect();
    match words.len() {
        0 => Err(Problem::new(ErrorCode::InvalidRequest, "The search has no word in it.")
            .hint("Search for words of a prompt, an answer, a title, a branch or a repository.")),
        count if count > WORDS => Err(Problem::new(
            ErrorCode::TooLarge,
            format!("The search has {count} words; at most {WORDS} are taken."),
        )
        .hint("Search for fewer words.")),
        _ => Ok(words),
    }
}

fn hits_of(rows: impl Iterator<Item = SearchRow>, limit: usize) -> Vec<SearchHit> {
    let mut hits: Vec<SearchHit> = vec![];
    let mut places: HashMap<SessionId, usize> = HashMap::new();
    for row in rows {
        let found =
            SearchMatch { found_in: found_in(row.kind), seq: row.seq, snippet: snippet_of(&row.snippet) };
        match places.get(&row.session.id) {
            Some(at) if hits[*at].matches.len() < MATCHES => hits[*at].matches.push(found),
            Some(_) => {}
            None if hits.len() < limit => {
                places.insert(row.session.id, hits.len());
                hits.push(SearchHit { session: view_of_row(row.session), matches: vec![found] });
            }
            None => {}
        }
    }
    hits
}

fn found_in(kind: PartKind) -> FoundIn {
    match kind {
        PartKind::Title => FoundIn::Title,
        PartKind::Repository => FoundIn::Repository,
        PartKind::Branch => FoundIn::Branch,
        PartKind::Prompt => FoundIn::Prompt,
        PartKind::Answer => FoundIn::Answer,
    }
}

fn snippet_of(marked: &str) -> Vec<SnippetPart> {
    let mut parts = vec![];
    for (at, piece) in marked.split(MARK_BEGIN).enumerate() {
        let (found, after) = match piece.split_once(MARK_END) {
            Some((found, after)) if at > 0 => (found, after),
            _ => ("", piece),
        };
        for (text, is_match) in [(found, true), (after, false)] {
            if !text.is_empty() {
                parts.push(SnippetPart { text: text.to_owned(), is_match });
            }
        }
    }
    parts
}
