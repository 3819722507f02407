//! A one-word request that shows whether a configured model really answers.

use crate::provider::{Provider, Request, StreamEvent};
use greenroom_domain::message::{Content, Message};
use greenroom_domain::money::Usage;
use greenroom_domain::{ErrorCode, Problem};
use serde::Serialize;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(90);
/// Enough for a model that thinks before it says one word.
const OUTPUT_LIMIT: u32 = 2_048;
const ANSWER_LIMIT: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TestReport {
    pub model: String,
    /// From the request to the first piece of the answer.
    pub first_ms: u64,
    /// From the request to the end of the answer.
    pub total_ms: u64,
    pub answer: String,
    pub usage: Usage,
}

/// Sends one small real request, which costs a few tokens.
pub async fn test(provider: &dyn Provider) -> Result<TestReport, Problem> {
    tokio::time::timeout(DEADLINE, Box::pin(ask(provider))).await.unwrap_or_else(|_| {
        let seconds = DEADLINE.as_secs();
        Err(Problem::new(ErrorCode::Deadline, format!("The model did not answer within {seconds} s.")))
    })
}

async fn ask(provider: &dyn Provider) -> Result<TestReport, Problem> {
    let request = Request {
        system: String::new(),
        tools: Vec::new(),
        messages: vec![Message::user("Answer with the one word: ready")],
        max_output_tokens: OUTPUT_LIMIT,
        effort: None,
        cache_key: "model-test".to_owned(),
    };
    let begin = Instant::now();
    let elapsed_ms = || u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut stream = provider.stream(request).await?;
    let mut first_ms = None;
    loop {
        let event = stream.recv().await;
        first_ms.get_or_insert_with(elapsed_ms);
        match event {
            Some(StreamEvent::Delta(_)) => {}
            Some(StreamEvent::Done(response)) => {
                return Ok(TestReport {
                    model: provider.model().to_owned(),
                    first_ms: first_ms.unwrap_or_default(),
                    total_ms: elapsed_ms(),
                    answer: words(&response.content),
                    usage: response.usage,
                });
            }
            Some(StreamEvent::Failed(error)) => return Err(error.problem()),
            None => {
                return Err(Problem::new(
                    ErrorCode::ModelStreamBroken,
                    "The answer broke off without an end.",
                ));
            }
        }
    }
}

fn words(content: &[Content]) -> String {
    let texts = content.iter().filter_map(|part| match part {
        Content::Text { text } => Some(text.trim()),
        Content::Thinking { .. } | Content::ToolCall(_) => None,
    });
    texts.collect::<Vec<_>>().join(" ").chars().take(ANSWER_LIMIT).collect()
}
