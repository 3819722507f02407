//! Titles of sessions, written by the installation's small model beside the first turn. Nobody waits for one: a session has
//! its prompt's first line for a title until there is a better one, and keeps it where there is none.

use crate::Inner;
use crate::sessions::title_of;
use greenroom_domain::Event;
use greenroom_domain::event::SmallJob;
use greenroom_domain::message::{Content, Message};
use greenroom_domain::money::Usage;
use greenroom_model::{Provider, Request, Response, StreamEvent};
use greenroom_session::SessionHandle;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::sync::Semaphore;

const DEADLINE: Duration = Duration::from_secs(60);
/// Titles that are written at the same time; further sessions keep theirs.
const AT_ONCE: usize = 8;
/// Characters of the prompt that the model is shown.
const PROMPT_SHOWN: usize = 4_000;
/// Enough for a model that thinks before it says a few words.
const OUTPUT_LIMIT: u32 = 2_048;
const INSTRUCTIONS: &str = "You write titles for requests to a coding agent. Answer with nothing but the title: at \
    most eight words, in the request's language, without quotes and without a full stop. Do not answer the request.";

static PLACES: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(AT_ONCE));

impl Inner {
    /// Begins to write a title for a session that was just made of this prompt.
    pub(crate) fn begin_title(self: &Arc<Self>, handle: SessionHandle, prompt: String) {
        let Some(small) = self.config.models.small.clone() else { return };
        let Ok(place) = PLACES.try_acquire() else { return };
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            let _place = place;
            let provider = match inner.provider(Some(small)).await {
                Ok(provider) => provider,
                Err(problem) => return tracing::warn!(%problem, "the model for small jobs cannot be used"),
            };
            drop(inner);
            let asked = tokio::time::timeout(DEADLINE, ask(provider.as_ref(), &prompt)).await;
            let Ok(Some(response)) = asked else {
                return tracing::debug!(session = %handle.id(), "no title was written");
            };
            keep(&handle, provider.model(), &response, &prompt).await;
        });
    }
}

async fn ask(provider: &dyn Provider, prompt: &str) -> Option<Response> {
    let shown: String = prompt.chars().take(PROMPT_SHOWN).collect();
    let request = Request {
        system: INSTRUCTIONS.to_owned(),
        tools: Vec::new(),
        messages: vec![Message::user(format!("<request>\n{shown}\n</request>"))],
        max_output_tokens: OUTPUT_LIMIT,
        effort: provider.efforts().first().copied(),
        cache_key: "titles".to_owned(),
    };
    let mut stream = provider.stream(request).await.ok()?;
    loop {
        match stream.recv().await? {
            StreamEvent::Delta(_) => {}
            StreamEvent::Done(response) => return Some(*response),
            StreamEvent::Failed(_) => return None,
        }
    }
}

/// What it cost counts, also where somebody was faster with another title.
async fn keep(handle: &SessionHandle, model: &str, response: &Response, prompt: &str) {
    let usage = Usage { requests: response.usage.requests.max(1), ..response.usage };
    let done = Event::SmallJobDone { job: SmallJob::Title, model: model.to_owned(), usage };
    let title = title_in(&response.content);
    let first = title_of(None, Some(prompt));
    let kept = handle.decide(move |state| {
        let is_untouched = state.title == first;
        let title = title.filter(|title| is_untouched && *title != first);
        let changed = title.map(|title| Event::TitleChanged { title, by: None });
        Ok(changed.into_iter().chain([done]).collect())
    });
    if let Err(problem) = kept.await {
        tracing::debug!(session = %handle.id(), %problem, "a title was not kept");
    }
}

/// One line, as a title may be; `None`: nothing was said.
fn title_in(content: &[Content]) -> Option<String> {
    let texts = content.iter().filter_map(|part| match part {
        Content::Text { text } => Some(text.as_str()),
        Content::Thinking { .. } | Content::ToolCall(_) => None,
    });
    let said: String = texts.collect();
    let line = said.lines().map(str::trim).find(|line| !line.is_empty())?;
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    let line = line.trim_matches(['"', '\'', '*', '`', '#', '“', '”', ' ']).trim_end_matches('.').trim();
    (!line.is_empty()).then(|| title_of(Some(line), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_one_line_without_decoration() {
        let title = |text: &str| title_in(&[Content::Text { text: text.into() }]);
        assert_eq!(title("\n**\"Fix the parser's test.\"**\nBecause"), Some("Fix the parser's test".into()));
        assert_eq!(title("tab\u{7}bed"), Some("tabbed".into()));
        assert_eq!(title(" \n\"\"\n"), None);
        assert!(title(&"word ".repeat(40)).unwrap().chars().count() <= 80);
        assert_eq!(title_in(&[Content::Thinking { text: "hm".into() }]), None);
    }
}
