//! One source of settings: flags, environment, file or defaults, each with only what it says.

use super::values::{Blanks, CollectorUrl, Dollars, LogFilter, Origin, Proxy, RuleSetting, VolumeGib, Wait};
use clap::{Args, Command, FromArgMatches, ValueEnum};
use greenroom_api::{PreviewDomain, RateLimits};
use greenroom_app::{AskSettings, AttachmentLimits, PoolLimits, RetryPolicy, Unattended};
use greenroom_domain::money::Budget;
use greenroom_domain::{ErrorCode, Problem, RetentionSettings, SpawnLimits};
use greenroom_image::RegistryHost;
use greenroom_sandboxd::DEFAULT_DISK;
use greenroom_session::Hibernation;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;

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
    /// Seconds for which what others are to be told of a session (a trace, its line in the list) is tried again; what still fails then is shown in the session until somebody has it tried again
    #[arg(long, value_name = "SECONDS")]
    pub(crate) delivery_seconds: Option<NonZeroU32>,
    /// Most snapshots kept of one session; the oldest that no fork needs are dropped first
    #[arg(long, value_name = "N")]
    pub(crate) snapshots_kept: Option<NonZeroU32>,
    /// Most MiB of one file on a prompt, or published by the agent
    #[arg(long, value_name = "MIB")]
    pub(crate) file_mib: Option<NonZeroU32>,
    /// Most MiB of all files of one session
    #[arg(long, value_name = "MIB")]
    pub(crate) session_files_mib: Option<NonZeroU32>,
    /// Most MiB of a session that is exported or imported as one file, packed and unpacked alike
    #[arg(long, value_name = "MIB")]
    pub(crate) session_archive_mib: Option<NonZeroU32>,
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
    /// Proxies in front of the server, as addresses or networks: `X-Forwarded-For` counts from them only
    #[arg(long, value_name = "ADDRESS,…", value_delimiter = ',')]
    pub(crate) trusted_proxies: Option<Vec<Proxy>>,
    #[command(flatten)]
    pub(crate) rate: RateLayer,
    #[command(flatten)]
    pub(crate) backup: BackupLayer,
    #[command(flatten)]
    pub(crate) retention: RetentionLayer,
    #[command(flatten)]
    pub(crate) models: ModelsLayer,
    #[command(flatten)]
    pub(crate) spawn: SpawnLayer,
    #[command(flatten)]
    pub(crate) budget: BudgetLayer,
    #[command(flatten)]
    pub(crate) asks: AsksLayer,
    /// Rules of what the agent may do, the last that matches counts: `ACTION PERMISSION [PATTERN]`, such as `ask bash git push *`; in the file `[[permissions]]` with `permission`, `pattern`, `action`. Without any everything is allowed; see docs/permissions.md
    #[arg(long, value_name = "RULE;…", value_delimiter = ';')]
    pub(crate) permissions: Option<Vec<RuleSetting>>,
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

/// How often one person and one address may ask.
#[derive(Clone, Debug, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RateLayer {
    /// Requests and WebSocket frames a minute that one person may send, a quarter of them at once; 0 sets no limit
    #[arg(id = "rate_person_per_minute", long = "rate-person-per-minute", value_name = "N")]
    pub(crate) person_per_minute: Option<u32>,
    /// Requests a minute from one address, or one IPv6 network of 64 bits, a quarter of them at once; 0 sets no limit
    #[arg(id = "rate_address_per_minute", long = "rate-address-per-minute", value_name = "N")]
    pub(crate) address_per_minute: Option<u32>,
}

/// Backups that the server makes by itself.
#[derive(Clone, Debug, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BackupLayer {
    /// Hours between backups of the data directory; 0 makes none
    #[arg(id = "backup_hours", long = "backup-hours", value_name = "HOURS")]
    pub(crate) hours: Option<u32>,
    /// Directory that they lie in, best on another disk; without it `backups` in the data directory
    #[arg(id = "backup_directory", long = "backup-directory", value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
    /// Backups kept; older ones are removed
    #[arg(id = "backup_keep", long = "backup-keep", value_name = "N")]
    pub(crate) keep: Option<NonZeroU32>,
}

/// What goes by itself. 0 days: it is kept for ever.
#[derive(Clone, Debug, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RetentionLayer {
    /// Days without anything new after which a session is archived; 0 archives none
    #[arg(id = "retention_archive_idle_days", long = "retention-archive-idle-days", value_name = "DAYS")]
    archive_idle_days: Option<u32>,
    /// Days after which an archived session in which nothing new happened is deleted with everything that belongs to it; 0 deletes none
    #[arg(
        id = "retention_delete_archived_days",
        long = "retention-delete-archived-days",
        value_name = "DAYS"
    )]
    delete_archived_days: Option<u32>,
    /// Days that the rows are kept which figures are added up from; 0 keeps them for ever
    #[arg(id = "retention_statistics_days", long = "retention-statistics-days", value_name = "DAYS")]
    statistics_days: Option<u32>,
    /// Days that share links are shown which expired or were revoked; 0 keeps them for ever
    #[arg(id = "retention_share_links_days", long = "retention-share-links-days", value_name = "DAYS")]
    share_links_days: Option<u32>,
}

/// What the installation says about its models beside `greenroom model add`.
#[derive(Clone, Debug, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ModelsLayer {
    /// File with context, abilities and prices of models, in the form of crates/model/src/catalog.toml; what it says comes before what the server knows
    #[arg(id = "models_catalog", long = "models-catalog", value_name = "FILE")]
    pub(crate) catalog: Option<PathBuf>,
    /// Names of models that go on with a turn, in this order, when its own is overloaded, out of credit or silent; people see it
    #[arg(id = "models_fallback", long = "models-fallback", value_name = "NAME,…", value_delimiter = ',')]
    pub(crate) fallback: Option<Vec<String>>,
    /// Name of a fast model for small jobs: it writes the titles of sessions; without it a title is the prompt's first line
    #[arg(id = "models_small", long = "models-small", value_name = "NAME")]
    pub(crate) small: Option<String>,
}

/// Sessions that agents begin by themselves.
#[derive(Clone, Debug, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SpawnLayer {
    /// How deep sessions may begin others: 1 lets only those that people began, 2 also theirs; 0 lets none
    #[arg(id = "spawn_depth", long = "spawn-depth", value_name = "N", value_parser = clap::value_parser!(u32).range(..=6))]
    depth: Option<u32>,
    /// Sessions that one session began and that may be at work at the same time
    #[arg(id = "spawn_at_once", long = "spawn-at-once", value_name = "N", value_parser = clap::value_parser!(u32).range(..=100))]
    at_once: Option<u32>,
    /// Sessions that one session may ever begin
    #[arg(id = "spawn_in_all", long = "spawn-in-all", value_name = "N", value_parser = clap::value_parser!(u32).range(..=100))]
    in_all: Option<u32>,
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

/// What becomes of what the agent asks people.
#[derive(Clone, Debug, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AsksLayer {
    /// Minutes that a turn waits for people to answer a question or to give leave, at most a week; 0 waits for nobody
    #[arg(id = "asks_wait_minutes", long = "asks-wait-minutes", value_name = "MINUTES")]
    wait_minutes: Option<Wait>,
    /// What a turn does when nobody answered in time: the model goes on with its best assumption and without what it had no leave for, or the turn ends as failed
    #[arg(id = "asks_unattended", long = "asks-unattended", value_name = "WHAT")]
    unattended: Option<WhenUnattended>,
}

impl AsksLayer {
    fn of(settings: &AskSettings) -> Self {
        let unattended = match settings.unattended {
            Unattended::GoOn => WhenUnattended::GoOn,
            Unattended::EndTurn => WhenUnattended::EndTurn,
        };
        let minutes = u32::try_from(settings.patience.as_secs() / 60).ok();
        Self {
            wait_minutes: minutes.and_then(|minutes| Wait::try_from(minutes).ok()),
            unattended: Some(unattended),
        }
    }

    fn or(&self, other: &Self) -> Self {
        Self {
            wait_minutes: self.wait_minutes.or(other.wait_minutes),
            unattended: self.unattended.or(other.unattended),
        }
    }

    pub(crate) fn complete(&self, rules: Vec<RuleSetting>) -> Option<AskSettings> {
        Some(AskSettings {
            patience: self.wait_minutes?.duration(),
            unattended: match self.unattended? {
                WhenUnattended::GoOn => Unattended::GoOn,
                WhenUnattended::EndTurn => Unattended::EndTurn,
            },
            rules: rules.into_iter().map(|rule| rule.0).collect(),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum WhenUnattended {
    GoOn,
    EndTurn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    Text,
    Json,
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
            delivery_seconds: u32::try_from(RetryPolicy::default().deadline.as_secs())
                .ok()
                .and_then(NonZeroU32::new),
            file_mib: mib(AttachmentLimits::default().file),
            session_files_mib: mib(AttachmentLimits::default().session),
            session_archive_mib: mib(greenroom_app::ARCHIVE_BYTES),
            snapshots_kept: u32::try_from(greenroom_app::SNAPSHOTS_KEPT).ok().and_then(NonZeroU32::new),
            image_schedule_minutes: Some(30),
            images_kept: NonZeroU32::new(3),
            failed_builds_kept_days: Some(14),
            image_registries: None,
            drain_seconds: Some(20),
            ready_free_mib: Some(256),
            trusted_proxies: None,
            backup: BackupLayer { hours: Some(0), directory: None, keep: NonZeroU32::new(14) },
            rate: RateLayer {
                person_per_minute: Some(RateLimits::default().person_per_minute),
                address_per_minute: Some(RateLimits::default().address_per_minute),
            },
            retention: RetentionLayer::of(RetentionSettings::default()),
            models: ModelsLayer::default(),
            spawn: SpawnLayer::of(SpawnLimits::default()),
            budget: BudgetLayer {
                tokens: Some(tokens),
                cost_usd: Some(Dollars(cost_microusd as f64 / 1e6)),
                wall_minutes: u32::try_from(wall_ms / 60_000).ok().and_then(NonZeroU32::new),
                tool_calls: Some(tool_calls),
            },
            asks: AsksLayer::of(&AskSettings::default()),
            permissions: None,
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
            delivery_seconds: self.delivery_seconds.or(other.delivery_seconds),
            file_mib: self.file_mib.or(other.file_mib),
            session_files_mib: self.session_files_mib.or(other.session_files_mib),
            session_archive_mib: self.session_archive_mib.or(other.session_archive_mib),
            snapshots_kept: self.snapshots_kept.or(other.snapshots_kept),
            image_schedule_minutes: self.image_schedule_minutes.or(other.image_schedule_minutes),
            images_kept: self.images_kept.or(other.images_kept),
            failed_builds_kept_days: self.failed_builds_kept_days.or(other.failed_builds_kept_days),
            image_registries: self.image_registries.or(other.image_registries),
            drain_seconds: self.drain_seconds.or(other.drain_seconds),
            ready_free_mib: self.ready_free_mib.or(other.ready_free_mib),
            trusted_proxies: self.trusted_proxies.or(other.trusted_proxies),
            backup: BackupLayer {
                hours: self.backup.hours.or(other.backup.hours),
                directory: self.backup.directory.or(other.backup.directory),
                keep: self.backup.keep.or(other.backup.keep),
            },
            rate: RateLayer {
                person_per_minute: self.rate.person_per_minute.or(other.rate.person_per_minute),
                address_per_minute: self.rate.address_per_minute.or(other.rate.address_per_minute),
            },
            retention: self.retention.or(&other.retention),
            models: ModelsLayer {
                catalog: self.models.catalog.or(other.models.catalog),
                fallback: self.models.fallback.or(other.models.fallback),
                small: self.models.small.or(other.models.small),
            },
            spawn: self.spawn.or(&other.spawn),
            budget: BudgetLayer {
                tokens: budget.tokens.or(others.tokens),
                cost_usd: budget.cost_usd.or(others.cost_usd),
                wall_minutes: budget.wall_minutes.or(others.wall_minutes),
                tool_calls: budget.tool_calls.or(others.tool_calls),
            },
            asks: self.asks.or(&other.asks),
            permissions: self.permissions.or(other.permissions),
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

impl SpawnLayer {
    fn of(limits: SpawnLimits) -> Self {
        let SpawnLimits { depth, at_once, in_all } = limits;
        Self { depth: Some(depth), at_once: Some(at_once), in_all: Some(in_all) }
    }

    fn or(&self, other: &Self) -> Self {
        Self {
            depth: self.depth.or(other.depth),
            at_once: self.at_once.or(other.at_once),
            in_all: self.in_all.or(other.in_all),
        }
    }

    /// The file, unlike a flag, may say more than the bounds.
    pub(crate) fn complete(&self) -> Option<SpawnLimits> {
        let (depth, at_once, in_all) = (self.depth?.min(6), self.at_once?.min(100), self.in_all?.min(100));
        Some(SpawnLimits { depth, at_once, in_all })
    }
}

impl RetentionLayer {
    fn of(settings: RetentionSettings) -> Self {
        let RetentionSettings { archive_idle_days, delete_archived_days, statistics_days, share_links_days } =
            settings;
        Self {
            archive_idle_days: Some(archive_idle_days),
            delete_archived_days: Some(delete_archived_days),
            statistics_days: Some(statistics_days),
            share_links_days: Some(share_links_days),
        }
    }

    fn or(&self, other: &Self) -> Self {
        Self {
            archive_idle_days: self.archive_idle_days.or(other.archive_idle_days),
            delete_archived_days: self.delete_archived_days.or(other.delete_archived_days),
            statistics_days: self.statistics_days.or(other.statistics_days),
            share_links_days: self.share_links_days.or(other.share_links_days),
        }
    }

    pub(crate) fn complete(&self) -> Option<RetentionSettings> {
        Some(RetentionSettings {
            archive_idle_days: self.archive_idle_days?,
            delete_archived_days: self.delete_archived_days?,
            statistics_days: self.statistics_days?,
            share_links_days: self.share_links_days?,
        })
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
        let table = ["log", "pool", "rate", "backup", "retention", "models", "spawn", "budget", "asks"]
            .into_iter()
            .find(|table| id.starts_with(&format!("{table}_")));
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
