//! One source of settings: flags, environment, file or defaults, each with only what it says.

use clap::{Args, Command, FromArgMatches, ValueEnum};
use greenroom_api::PreviewDomain;
use greenroom_app::{AttachmentLimits, PoolLimits};
use greenroom_client::Address;
use greenroom_domain::money::Budget;
use greenroom_domain::{ErrorCode, Problem};
use greenroom_image::RegistryHost;
use greenroom_sandboxd::{DEFAULT_DISK, MAX_BLANKS};
use greenroom_session::Hibernation;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::str::FromStr;
use url::Url;

#[derive(Clone, Debug, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[command(next_help_heading = "Settings (also by environment and file; see docs/settings.md)")]
pub(crate) struct Layer {
    /// Address and port to listen on; another than loopback lets the network in
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Where browsers reach the server, such as https://greenroom.example.org, behind a proxy
    #[arg(long, value_name = "URL")]
    pub(crate) public_origin: Option<Origin>,
    /// Domain whose every subdomain leads to the server, such as previews.example.net, for previews of sessions
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) preview_domain: Option<PreviewDomain>,
    #[command(flatten)]
    pub(crate) log: LogLayer,
    /// Address and port on which everybody who reaches it may read `/metrics`; without it only an admin's token may, at the server's own address
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// OpenTelemetry collector that gets each turn's trace (OTLP by HTTP, protobuf), such as http://127.0.0.1:4318
    #[arg(long, value_name = "URL")]
    pub(crate) otlp_endpoint: Option<CollectorUrl>,
    /// Most sandboxes that run at the same time; further sessions wait
    #[arg(long, value_name = "N")]
    pub(crate) max_sandboxes: Option<NonZeroU32>,
    /// Started sandboxes without an image that are kept ready, at most 128; each holds about half a megabyte; without it as many as sandboxes may run
    #[arg(long, value_name = "N")]
    pub(crate) blanks: Option<Blanks>,
    #[command(flatten)]
    pub(crate) pool: PoolLayer,
    /// Most GiB of the host's disk for the volume of workspaces, layers and snapshots, which grows and never shrinks; without it four fifths of what is free, at most 1024
    #[arg(long, value_name = "GIB")]
    pub(crate) volume_gib: Option<VolumeGib>,
    /// Most GiB that one sandbox may write, on machines that can bound it
    #[arg(long, value_name = "GIB")]
    pub(crate) sandbox_disk_gib: Option<NonZeroU32>,
    /// Most GiB of image layers, beyond which the oldest images that nobody uses are removed; without it half of the volume
    #[arg(long, value_name = "GIB")]
    pub(crate) layers_gib: Option<NonZeroU32>,
    /// Seconds without a message after which an idle session leaves memory; its viewers stay connected, and the next message wakes it
    #[arg(long, value_name = "SECONDS")]
    pub(crate) session_idle_seconds: Option<NonZeroU32>,
    /// Most sessions in memory, each with an open file; beyond it those that were used least recently leave early
    #[arg(long, value_name = "N")]
    pub(crate) sessions_awake: Option<NonZeroU32>,
    /// Most snapshots kept of one session; the oldest that no fork needs are dropped first
    #[arg(long, value_name = "N")]
    pub(crate) snapshots_kept: Option<NonZeroU32>,
    /// Most MiB of one file on a prompt, or published by the agent
    #[arg(long, value_name = "MIB")]
    pub(crate) file_mib: Option<NonZeroU32>,
    /// Most MiB of all files of one session
    #[arg(long, value_name = "MIB")]
    pub(crate) session_files_mib: Option<NonZeroU32>,
    /// Minutes between builds of each repository's image; 0 builds on demand only
    #[arg(long, value_name = "MINUTES")]
    pub(crate) image_schedule_minutes: Option<u32>,
    /// Good images kept of each repository, beside those that sessions use
    #[arg(long, value_name = "N")]
    pub(crate) images_kept: Option<NonZeroU32>,
    /// Days that failed builds and their logs are kept
    #[arg(long, value_name = "DAYS")]
    pub(crate) failed_builds_kept_days: Option<u32>,
    /// Registries that a recipe's `oci:` base may name beside the well-known ones, such as registry.example.com:5000
    #[arg(long, value_name = "HOST,…", value_delimiter = ',')]
    pub(crate) image_registries: Option<Vec<RegistryHost>>,
    /// Seconds that a stop gives running turns to finish; those that do not go on after the next start
    #[arg(long, value_name = "SECONDS")]
    pub(crate) drain_seconds: Option<u32>,
    /// MiB that must be free on the data directory's disk and on the volume for the server to call itself ready
    #[arg(long, value_name = "MIB")]
    pub(crate) ready_free_mib: Option<u32>,
    #[command(flatten)]
    pub(crate) budget: BudgetLayer,
}

fn mib(bytes: u64) -> Option<NonZeroU32> {
    u32::try_from(bytes >> 20).ok().and_then(NonZeroU32::new)
}

#[derive(Clone, Debug, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogLayer {
    /// Form of the server's log on standard error
    #[arg(id = "log_format", long = "log-format", value_name = "FORMAT")]
    pub(crate) format: Option<LogFormat>,
    /// What is logged: levels by target, such as `info,greenroom_app=debug`; `RUST_LOG` counts before it
    #[arg(id = "log_filter", long = "log-filter", value_name = "LEVELS")]
    pub(crate) filter: Option<LogFilter>,
}

/// Sandboxes that are started and synced before a session needs them. They are among `max_sandboxes`, and end when
/// sessions need their places.
#[derive(Clone, Debug, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PoolLayer {
    /// Warm sandboxes kept for each repository that was used within a day
    #[arg(id = "pool_floor", long = "pool-floor", value_name = "N")]
    floor: Option<u32>,
    /// Most warm sandboxes of one repository, when many sessions of it begin
    #[arg(id = "pool_cap", long = "pool-cap", value_name = "N")]
    cap: Option<u32>,
    /// Most warm sandboxes of all repositories; 0 keeps none
    #[arg(id = "pool_most", long = "pool-most", value_name = "N")]
    most: Option<u32>,
}

/// Hard limits of one turn where a session sets none.
#[derive(Clone, Debug, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BudgetLayer {
    /// Tokens that a turn may use
    #[arg(id = "budget_tokens", long = "budget-tokens", value_name = "N")]
    tokens: Option<u64>,
    /// US dollars that a turn may cost, where the model's price is known
    #[arg(id = "budget_cost_usd", long = "budget-cost-usd", value_name = "DOLLARS")]
    cost_usd: Option<Dollars>,
    /// Minutes that a turn may take
    #[arg(id = "budget_wall_minutes", long = "budget-wall-minutes", value_name = "MINUTES")]
    wall_minutes: Option<NonZeroU32>,
    /// Tool calls that a turn may make
    #[arg(id = "budget_tool_calls", long = "budget-tool-calls", value_name = "N")]
    tool_calls: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Directives of `tracing_subscriber::EnvFilter`, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct LogFilter(String);

impl FromStr for LogFilter {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        tracing_subscriber::EnvFilter::try_new(text)
            .map_err(|error| format!("{text:?} names no levels: {error}"))?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for LogFilter {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<LogFilter> for String {
    fn from(filter: LogFilter) -> Self {
        filter.0
    }
}

/// Of a collector: http or https, with a host, without a query or credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct CollectorUrl(pub(crate) Url);

impl FromStr for CollectorUrl {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let url: Url = text.parse().map_err(|error| format!("{text:?} is not a URL: {error}"))?;
        let is_plain = url.query().is_none() && url.username().is_empty() && url.password().is_none();
        if matches!(url.scheme(), "http" | "https") && url.has_host() && is_plain {
            return Ok(Self(url));
        }
        Err("a collector's address is http:// or https://, host, port and path".to_owned())
    }
}

impl TryFrom<String> for CollectorUrl {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<CollectorUrl> for String {
    fn from(url: CollectorUrl) -> Self {
        url.0.into()
    }
}

/// Scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Origin(Address);

impl FromStr for Origin {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let address: Address = text.parse().map_err(|error| format!("{error}"))?;
        if address.to_string() != address.origin() {
            return Err(format!("{text:?} has a path; an origin is scheme, host and port"));
        }
        Ok(Self(address))
    }
}

impl TryFrom<String> for Origin {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.to_string()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An amount that is neither negative nor absurd.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub(crate) struct Dollars(f64);

impl TryFrom<f64> for Dollars {
    type Error = &'static str;
    fn try_from(amount: f64) -> Result<Self, &'static str> {
        if (0.0..=1e6).contains(&amount) { Ok(Self(amount)) } else { Err("expected 0 to 1000000 dollars") }
    }
}

impl From<Dollars> for f64 {
    fn from(dollars: Dollars) -> Self {
        dollars.0
    }
}

impl FromStr for Dollars {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let amount: f64 = text.parse().map_err(|_| format!("{text:?} is not an amount"))?;
        Self::try_from(amount).map_err(str::to_owned)
    }
}

/// A size that a volume can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub(crate) struct VolumeGib(u32);

impl VolumeGib {
    pub(crate) fn bytes(self) -> u64 {
        u64::from(self.0) << 30
    }
}

impl TryFrom<u32> for VolumeGib {
    type Error = &'static str;
    fn try_from(gib: u32) -> Result<Self, &'static str> {
        if (2..=1024).contains(&gib) { Ok(Self(gib)) } else { Err("expected 2 to 1024 GiB") }
    }
}

impl From<VolumeGib> for u32 {
    fn from(size: VolumeGib) -> Self {
        size.0
    }
}

impl FromStr for VolumeGib {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let gib: u32 = text.parse().map_err(|_| format!("{text:?} is not a whole number of GiB"))?;
        Self::try_from(gib).map_err(str::to_owned)
    }
}

/// As many blanks as can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub(crate) struct Blanks(u32);

impl TryFrom<u32> for Blanks {
    type Error = &'static str;
    fn try_from(count: u32) -> Result<Self, &'static str> {
        if count as usize <= MAX_BLANKS { Ok(Self(count)) } else { Err("expected 0 to 128 blanks") }
    }
}

impl From<Blanks> for u32 {
    fn from(blanks: Blanks) -> Self {
        blanks.0
    }
}

impl FromStr for Blanks {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let count: u32 = text.parse().map_err(|_| format!("{text:?} is not a number of blanks"))?;
        Self::try_from(count).map_err(str::to_owned)
    }
}

impl Layer {
    pub(crate) fn defaults() -> Self {
        let Budget { tokens, cost_microusd, wall_ms, tool_calls } = Budget::default();
        Self {
            listen: Some((Ipv4Addr::LOCALHOST, 7878).into()),
            public_origin: None,
            preview_domain: None,
            log: LogLayer { format: Some(LogFormat::Text), filter: Some(LogFilter("warn".to_owned())) },
            metrics_listen: None,
            otlp_endpoint: None,
            max_sandboxes: NonZeroU32::new(16),
            blanks: None,
            pool: PoolLayer::of(PoolLimits::default()),
            volume_gib: None,
            sandbox_disk_gib: u32::try_from(DEFAULT_DISK >> 30).ok().and_then(NonZeroU32::new),
            layers_gib: None,
            session_idle_seconds: u32::try_from(Hibernation::default().idle.as_secs())
                .ok()
                .and_then(NonZeroU32::new),
            sessions_awake: u32::try_from(Hibernation::default().most_awake).ok().and_then(NonZeroU32::new),
            file_mib: mib(AttachmentLimits::default().file),
            session_files_mib: mib(AttachmentLimits::default().session),
            snapshots_kept: u32::try_from(greenroom_app::SNAPSHOTS_KEPT).ok().and_then(NonZeroU32::new),
            image_schedule_minutes: Some(30),
            images_kept: NonZeroU32::new(3),
            failed_builds_kept_days: Some(14),
            image_registries: None,
            drain_seconds: Some(20),
            ready_free_mib: Some(256),
            budget: BudgetLayer {
                tokens: Some(tokens),
                cost_usd: Some(Dollars(cost_microusd as f64 / 1e6)),
                wall_minutes: u32::try_from(wall_ms / 60_000).ok().and_then(NonZeroU32::new),
                tool_calls: Some(tool_calls),
            },
        }
    }

    /// `GREENROOM_` and the flag's name: read as the flag would be.
    pub(crate) fn from_env(env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Problem> {
        let mut layer = Self::default();
        for setting in settings() {
            if let Some(text) = env(&setting.variable) {
                let flag = format!("--{}={text}", setting.flag);
                let parsed = command().try_get_matches_from([flag]).and_then(|m| Self::from_arg_matches(&m));
                layer = layer.or(parsed.map_err(|error| unusable(&setting.variable, &error))?);
            }
        }
        Ok(layer)
    }

    /// What this says, and where it says nothing, what `other` says.
    pub(crate) fn or(self, other: Self) -> Self {
        let (budget, others) = (self.budget, other.budget);
        Self {
            listen: self.listen.or(other.listen),
            public_origin: self.public_origin.or(other.public_origin),
            preview_domain: self.preview_domain.or(other.preview_domain),
            log: LogLayer {
                format: self.log.format.or(other.log.format),
                filter: self.log.filter.or(other.log.filter),
            },
            metrics_listen: self.metrics_listen.or(other.metrics_listen),
            otlp_endpoint: self.otlp_endpoint.or(other.otlp_endpoint),
            max_sandboxes: self.max_sandboxes.or(other.max_sandboxes),
            blanks: self.blanks.or(other.blanks),
            pool: self.pool.or(&other.pool),
            volume_gib: self.volume_gib.or(other.volume_gib),
            sandbox_disk_gib: self.sandbox_disk_gib.or(other.sandbox_disk_gib),
            layers_gib: self.layers_gib.or(other.layers_gib),
            session_idle_seconds: self.session_idle_seconds.or(other.session_idle_seconds),
            sessions_awake: self.sessions_awake.or(other.sessions_awake),
            file_mib: self.file_mib.or(other.file_mib),
            session_files_mib: self.session_files_mib.or(other.session_files_mib),
            snapshots_kept: self.snapshots_kept.or(other.snapshots_kept),
            image_schedule_minutes: self.image_schedule_minutes.or(other.image_schedule_minutes),
            images_kept: self.images_kept.or(other.images_kept),
            failed_builds_kept_days: self.failed_builds_kept_days.or(other.failed_builds_kept_days),
            image_registries: self.image_registries.or(other.image_registries),
            drain_seconds: self.drain_seconds.or(other.drain_seconds),
            ready_free_mib: self.ready_free_mib.or(other.ready_free_mib),
            budget: BudgetLayer {
                tokens: budget.tokens.or(others.tokens),
                cost_usd: budget.cost_usd.or(others.cost_usd),
                wall_minutes: budget.wall_minutes.or(others.wall_minutes),
                tool_calls: budget.tool_calls.or(others.tool_calls),
            },
        }
    }
}

impl PoolLayer {
    fn of(limits: PoolLimits) -> Self {
        let number = |limit| u32::try_from(limit).ok();
        Self { floor: number(limits.floor), cap: number(limits.cap), most: number(limits.most) }
    }

    fn or(&self, other: &Self) -> Self {
        Self {
            floor: self.floor.or(other.floor),
            cap: self.cap.or(other.cap),
            most: self.most.or(other.most),
        }
    }

    pub(crate) fn complete(&self) -> Option<PoolLimits> {
        let (floor, cap, most) = (self.floor? as usize, self.cap? as usize, self.most? as usize);
        Some(PoolLimits { floor, cap, most })
    }
}

impl BudgetLayer {
    pub(crate) fn complete(&self) -> Option<Budget> {
        Some(Budget {
            tokens: self.tokens?,
            cost_microusd: (self.cost_usd?.0 * 1e6).round() as u64,
            wall_ms: u64::from(self.wall_minutes?.get()) * 60_000,
            tool_calls: self.tool_calls?,
        })
    }
}

/// A setting's names and words.
pub(crate) struct Setting {
    pub(crate) key: String,
    pub(crate) flag: String,
    pub(crate) variable: String,
    pub(crate) help: String,
}

fn command() -> Command {
    Layer::augment_args(Command::new("settings").no_binary_name(true).disable_help_flag(true))
}

pub(crate) fn settings() -> Vec<Setting> {
    let names = |argument: &clap::Arg| {
        let id = argument.get_id().as_str();
        let table = ["log", "pool", "budget"].into_iter().find(|table| id.starts_with(&format!("{table}_")));
        Setting {
            key: table
                .map_or(id.to_owned(), |table| id.replacen(&format!("{table}_"), &format!("{table}."), 1)),
            flag: argument.get_long().unwrap_or_default().to_owned(),
            variable: format!("GREENROOM_{}", id.to_uppercase()),
            help: argument.get_help().map(ToString::to_string).unwrap_or_default(),
        }
    };
    command().get_arguments().map(names).collect()
}

fn unusable(variable: &str, error: &clap::Error) -> Problem {
    let text = error.to_string();
    let reason = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    Problem::new(ErrorCode::SettingsInvalid, format!("{variable} in the environment: {reason}."))
        .hint("docs/settings.md lists every setting.")
}
