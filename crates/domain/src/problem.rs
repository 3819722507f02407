//! The error that a person meets: a stable code, one plain sentence, a hint.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;
use utoipa::ToSchema;

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $status:literal;)*) => {
        /// Stable codes. Text and HTTP status of a code never change once released.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ErrorCode {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)*
        }
        impl ErrorCode {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            pub fn as_str(self) -> &'static str { match self { $(Self::$variant => $text),* } }
            pub fn http_status(self) -> u16 { match self { $(Self::$variant => $status),* } }
        }
    };
}

error_codes! {
    InvalidRequest = "invalid_request", 400;
    InvalidFrame = "invalid_frame", 400;
    NotSignedIn = "not_signed_in", 401;
    WrongCredentials = "wrong_credentials", 401;
    NotAllowed = "not_allowed", 403;
    OriginRefused = "origin_refused", 403;
    SelfApproval = "self_approval", 403;
    NotFound = "not_found", 404;
    RepositoryUnknown = "repository_unknown", 404;
    SessionUnknown = "session_unknown", 404;
    ChangeUnknown = "change_unknown", 404;
    ModelUnknown = "model_unknown", 404;
    PersonUnknown = "person_unknown", 404;
    FileUnknown = "file_unknown", 404;
    SnapshotUnknown = "snapshot_unknown", 404;
    AttachmentUnknown = "attachment_unknown", 404;
    ShareLinkUnknown = "share_link_unknown", 404;
    TurnUnknown = "turn_unknown", 404;
    /// The session has no such step, or its files are not there any more.
    StepUnknown = "step_unknown", 404;
    SecretUnknown = "secret_unknown", 404;
    PortClosed = "port_closed", 502;
    MethodNotAllowed = "method_not_allowed", 405;
    NameTaken = "name_taken", 409;
    KeyReused = "key_reused", 409;
    LastOwner = "last_owner", 409;
    PromptNotQueued = "prompt_not_queued", 409;
    NotRunning = "not_running", 409;
    /// It was answered, nobody answered in time, or its turn ended.
    AskClosed = "ask_closed", 409;
    /// The agent asked, and nobody answered in time.
    Unattended = "unattended", 409;
    ChangeNotOpen = "change_not_open", 409;
    ApprovalMissing = "approval_missing", 409;
    MergeConflict = "merge_conflict", 409;
    NothingToPropose = "nothing_to_propose", 409;
    SessionBusy = "session_busy", 409;
    ChangeMoved = "change_moved", 409;
    SourceDiverged = "source_diverged", 409;
    HookRefused = "hook_refused", 401;
    /// The commits that imported work stands on are not in the repository.
    CommitMissing = "commit_missing", 409;
    Fenced = "fenced", 409;
    TooLarge = "too_large", 413;
    QuotaReached = "quota_reached", 413;
    RecipeInvalid = "recipe_invalid", 422;
    CloneFailed = "clone_failed", 422;
    StepFailed = "step_failed", 422;
    CheckFailed = "check_failed", 422;
    BaseUnavailable = "base_unavailable", 422;
    ServiceFailed = "service_failed", 502;
    SnapshotDamaged = "snapshot_damaged", 500;
    /// Written by a newer Greenroom.
    SessionTooNew = "session_too_new", 409;
    ImageMissing = "image_missing", 409;
    ImageUnfit = "image_unfit", 409;
    ImageDamaged = "image_damaged", 422;
    /// A session's file that is damaged, or no such file.
    ArchiveDamaged = "archive_damaged", 422;
    /// Written by a newer Greenroom.
    ArchiveTooNew = "archive_too_new", 422;
    TooManyRequests = "too_many_requests", 429;
    /// What an admin allows one person is used.
    PersonQuotaReached = "person_quota_reached", 429;
    QueueFull = "queue_full", 429;
    ModelNotConfigured = "model_not_configured", 409;
    /// The chosen model does not think that hard, or that little.
    ModelEffortUnknown = "model_effort_unknown", 422;
    /// It cannot call tools, which an agent needs.
    ModelWithoutTools = "model_without_tools", 422;
    ModelKeyRefused = "model_key_refused", 424;
    ModelUnreachable = "model_unreachable", 424;
    ModelOverloaded = "model_overloaded", 424;
    ModelRateLimited = "model_rate_limited", 424;
    /// What the key's account may spend is used up.
    ModelOutOfCredit = "model_out_of_credit", 424;
    ModelRefused = "model_refused", 424;
    ModelStreamBroken = "model_stream_broken", 424;
    ModelRequestInvalid = "model_request_invalid", 424;
    ContextOverflow = "context_overflow", 424;
    BudgetReached = "budget_reached", 402;
    PushRefused = "push_refused", 403;
    EgressRefused = "egress_refused", 403;
    SandboxUnsupported = "sandbox_unsupported", 501;
    SandboxLost = "sandbox_lost", 502;
    SandboxFailed = "sandbox_failed", 502;
    DataOnOverlay = "data_on_overlay", 500;
    DataInUse = "data_in_use", 500;
    PortInUse = "port_in_use", 500;
    SettingsInvalid = "settings_invalid", 500;
    BackupUnusable = "backup_unusable", 500;
    DiskFull = "disk_full", 507;
    CollectorUnreachable = "collector_unreachable", 502;
    Deadline = "deadline", 504;
    ShuttingDown = "shutting_down", 503;
    /// Made by clients: no answer came.
    ServerUnreachable = "server_unreachable", 502;
    /// Made by clients: an answer that they do not understand.
    ServerUnexpected = "server_unexpected", 502;
    Interrupted = "interrupted", 500;
    Internal = "internal", 500;
}

/// Written out because the derive does not see names that a macro passes on to serde.
impl utoipa::PartialSchema for ErrorCode {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some("Stable codes. Text and HTTP status of a code never change once released."))
            .enum_values(Some(Self::ALL.iter().map(|code| code.as_str())))
            .into()
    }
}

impl ToSchema for ErrorCode {}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What went wrong, for people and programs. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    pub code: ErrorCode,
    /// One plain sentence.
    pub message: String,
    /// What to do about it, where there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Output that explains it (a failed step's last lines), bounded to 16 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Seconds after which the same can be asked again, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
}

const DETAIL_LIMIT: usize = 16 * 1024;

impl Problem {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, detail: None, retry_after_s: None }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// At least a second.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        self.retry_after_s = Some(u32::try_from(seconds).unwrap_or(u32::MAX));
        self
    }

    /// Keeps the end of `detail`: the last lines are the ones that explain.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        let detail: String = detail.into();
        let mut from = detail.len().saturating_sub(DETAIL_LIMIT);
        while !detail.is_char_boundary(from) {
            from += 1;
        }
        self.detail = Some(detail[from..].to_owned());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_match_their_serialised_form() {
        let mut seen = std::collections::HashSet::new();
        for code in ErrorCode::ALL {
            assert!(seen.insert(code.as_str()), "{code} twice");
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }

    #[test]
    fn the_schema_lists_codes_as_they_are_serialised() {
        let schema = serde_json::to_value(<ErrorCode as utoipa::PartialSchema>::schema()).unwrap();
        assert_eq!(schema["enum"], serde_json::to_value(ErrorCode::ALL).unwrap());
    }

    #[test]
    fn detail_keeps_the_end_on_a_character_boundary() {
        let problem = Problem::new(ErrorCode::StepFailed, "x").detail("é".repeat(DETAIL_LIMIT));
        let detail = problem.detail.unwrap();
        assert!(detail.len() <= DETAIL_LIMIT && detail.ends_with('é'));
    }
}
