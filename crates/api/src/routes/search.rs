//! Finding sessions, and figures of what happened in them.

use crate::ApiState;
use crate::error::Answer;
use crate::extract::{Caller, QueryOf};
use axum::Json;
use axum::extract::State;
use greenroom_app::StatisticsRange;
use greenroom_domain::statistics::StatisticsBy;
use greenroom_domain::{LoginName, RepositoryName};
use greenroom_wire::{ErrorBody, SearchHit, StatisticsView};
use serde::Deserialize;
use utoipa::IntoParams;

const FOUND: usize = 20;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Searched {
    /// At most 12 words and 200 characters.
    query: String,
    /// Only sessions of this repository.
    #[param(value_type = Option<RepositoryName>)]
    repository: Option<RepositoryName>,
    /// At most 50; 20 when not said.
    limit: Option<usize>,
}

/// Search sessions
///
/// Sessions in which each of the words is somewhere: in the title, a prompt, an answer, the branch or the repository's
/// name. The last word may be the beginning of one. Archived sessions are found too.
#[utoipa::path(get, path = "/search", operation_id = "search", tag = "sessions", params(Searched),
    responses(
        (status = 200, body = Vec<SearchHit>),
        (status = 404, description = "`repository_unknown`", body = ErrorBody),
        (status = 413, description = "`too_large`", body = ErrorBody),
    ))]
pub(super) async fn search(
    State(state): State<ApiState>,
    caller: Caller,
    QueryOf(searched): QueryOf<Searched>,
) -> Answer<Vec<SearchHit>> {
    let Searched { query, repository, limit } = searched;
    let limit = limit.unwrap_or(FOUND);
    Ok(Json(state.app.search(&caller.person, &query, repository.as_ref(), limit).await?))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Ranged {
    /// The first day in UTC, such as `2026-11-01`; 30 days up to the last one when not said.
    from: Option<String>,
    /// The last day; today when not said. At most 366 days.
    to: Option<String>,
    /// What is counted together: `day`, `person` or `repository`.
    #[serde(default)]
    by: StatisticsBy,
    /// Only of this repository.
    #[param(value_type = Option<RepositoryName>)]
    repository: Option<RepositoryName>,
    /// Only of the person with this login.
    #[param(value_type = Option<String>)]
    person: Option<LoginName>,
}

/// Show figures
///
/// Turns with their outcomes, tokens, money and time, tool calls and changes. Each event counts once; what sessions did
/// counts after they are deleted.
#[utoipa::path(get, path = "/statistics", operation_id = "statistics", tag = "machine", params(Ranged),
    responses(
        (status = 200, body = StatisticsView),
        (status = 404, description = "`repository_unknown`, `person_unknown`", body = ErrorBody),
    ))]
pub(super) async fn statistics(
    State(state): State<ApiState>,
    caller: Caller,
    QueryOf(ranged): QueryOf<Ranged>,
) -> Answer<StatisticsView> {
    let Ranged { from, to, by, repository, person } = ranged;
    let range = StatisticsRange { from, to, by, repository, person };
    Ok(Json(state.app.statistics(&caller.person, range).await?))
}
