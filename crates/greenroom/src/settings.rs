//! Settings of the server. One struct, [`Layer`], says each setting's name, type and words; flags, environment
//! variables, the file and `docs/settings.md` all follow from it. Precedence: flag, then environment, then file, then
//! default. A setting that cannot be used stops the start with `settings_invalid` and the place where it is written.

mod layer;
mod reference;
mod values;

pub(crate) use layer::{Layer, LogFormat};
pub(crate) use reference::reference;

use crate::connection::data_dir;
use crate::scheduled::BackupSchedule;
use clap::Args;
use greenroom_api::{PreviewDomain, RateLimits, TrustedProxies};
use greenroom_app::{AskSettings, AttachmentLimits, PoolLimits, RetryPolicy};
use greenroom_domain::money::Budget;
use greenroom_domain::{ErrorCode, Problem, RetentionSettings, SpawnLimits};
use greenroom_sandboxd::MAX_BLANKS;
use greenroom_session::Hibernation;
use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::Url;

/// File in the data directory that is read where no other is named.
const FILE_NAME: &str = "greenroom.toml";

/// What the server runs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) data: PathBuf,
    pub(crate) listen: SocketAddr,
    /// Where browsers reach it, when that is not the address it listens on.
    pub(crate) public_origin: Option<String>,
    /// For previews; none: only browsers on this machine reach them.
    pub(crate) preview_domain: Option<PreviewDomain>,
    pub(crate) log_format: LogFormat,
    pub(crate) log_filter: String,
    pub(crate) metrics_listen: Option<SocketAddr>,
    pub(crate) otlp_endpoint: Option<Url>,
    pub(crate) max_sandboxes: u32,
    /// At most `MAX_BLANKS`.
    pub(crate) blanks: u32,
    pub(crate) pool: PoolLimits,
    /// Limits of a turn where a session sets none.
    pub(crate) budget: Budget,
    /// Of the file that the volume lies in.
    pub(crate) volume_bytes: Option<u64>,
    pub(crate) sandbox_disk_bytes: u64,
    pub(crate) layers_bytes: Option<u64>,
    pub(crate) hibernation: Hibernation,
    pub(crate) retries: RetryPolicy,
    pub(crate) snapshots_kept: u32,
    pub(crate) attachments: AttachmentLimits,
    pub(crate) archive_bytes: u64,
    /// 0: images are built on demand only.
    pub(crate) image_schedule_minutes: u32,
    pub(crate) images_kept: u32,
    pub(crate) failed_builds_kept_days: u32,
    pub(crate) retention: RetentionSettings,
    pub(crate) spawn: SpawnLimits,
    pub(crate) image_registries: Vec<greenroom_image::RegistryHost>,
    /// What a stop gives running turns to finish.
    pub(crate) drain_seconds: u32,
    pub(crate) ready_free_bytes: u64,
    pub(crate) trusted_proxies: TrustedProxies,
    pub(crate) rates: RateLimits,
    pub(crate) backups: Option<BackupSchedule>,
    pub(crate) models_catalog: Option<PathBuf>,
    pub(crate) models_fallback: Vec<String>,
    pub(crate) models_small: Option<String>,
    pub(crate) asks: AskSettings,
}

/// Flags of `greenroom serve`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ServeFlags {
    /// Settings file [default: greenroom.toml in the data directory, where it exists]
    #[arg(long, value_name = "FILE", env = "GREENROOM_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) layer: Layer,
}

impl Settings {
    /// From `--data`, the flags, the environment and the file.
    pub(crate) fn load(data: Option<&Path>, flags: ServeFlags) -> Result<Self, Problem> {
        let data = data_dir(data);
        let env = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let file = read_file(flags.config.as_deref(), &data)?;
        Ok(Self::resolve(data, flags.layer, Layer::from_env(&env)?, file))
    }

    fn resolve(data: PathBuf, flags: Layer, env: Layer, file: Layer) -> Self {
        let layer = flags.or(env).or(file).or(Layer::defaults());
        let all = "every setting but those that are optional here has a default";
        let max_sandboxes = layer.max_sandboxes.expect(all).get();
        let hours = layer.backup.hours.expect(all);
        let backups = (hours > 0).then(|| BackupSchedule {
            every: Duration::from_secs(3600 * u64::from(hours)),
            to: layer.backup.directory.clone().unwrap_or_else(|| data.join("backups")),
            keep: layer.backup.keep.expect(all).get(),
        });
        Self {
            data,
            listen: layer.listen.expect(all),
            public_origin: layer.public_origin.map(|origin| origin.to_string()),
            preview_domain: layer.preview_domain,
            log_format: layer.log.format.expect(all),
            log_filter: layer.log.filter.expect(all).into(),
            metrics_listen: layer.metrics_listen,
            otlp_endpoint: layer.otlp_endpoint.map(|collector| collector.0),
            max_sandboxes,
            // So that every start that may be made at once finds one.
            blanks: layer.blanks.map_or_else(|| max_sandboxes.min(MAX_BLANKS as u32), u32::from),
            pool: layer.pool.complete().expect(all),
            volume_bytes: layer.volume_gib.map(values::VolumeGib::bytes),
            sandbox_disk_bytes: gib(layer.sandbox_disk_gib.expect(all)),
            layers_bytes: layer.layers_gib.map(gib),
            hibernation: Hibernation {
                idle: Duration::from_secs(layer.session_idle_seconds.expect(all).get().into()),
                most_awake: layer.sessions_awake.expect(all).get() as usize,
            },
            retries: RetryPolicy {
                deadline: Duration::from_secs(layer.delivery_seconds.expect(all).get().into()),
                ..RetryPolicy::default()
            },
            snapshots_kept: layer.snapshots_kept.expect(all).get(),
            attachments: AttachmentLimits {
                file: mib(layer.file_mib.expect(all)),
                session: mib(layer.session_files_mib.expect(all)),
            },
            archive_bytes: mib(layer.session_archive_mib.expect(all)),
            image_schedule_minutes: layer.image_schedule_minutes.expect(all),
            images_kept: layer.images_kept.expect(all).get(),
            failed_builds_kept_days: layer.failed_builds_kept_days.expect(all),
            retention: layer.retention.complete().expect(all),
            spawn: layer.spawn.complete().expect(all),
            image_registries: layer.image_registries.unwrap_or_default(),
            drain_seconds: layer.drain_seconds.expect(all),
            backups,
            trusted_proxies: TrustedProxies::new(
                layer.trusted_proxies.unwrap_or_default().into_iter().map(|proxy| proxy.0).collect(),
            ),
            rates: RateLimits {
                person_per_minute: layer.rate.person_per_minute.expect(all),
                address_per_minute: layer.rate.address_per_minute.expect(all),
            },
            ready_free_bytes: u64::from(layer.ready_free_mib.expect(all)) << 20,
            budget: layer.budget.complete().expect(all),
            models_catalog: layer.models.catalog,
            models_fallback: layer.models.fallback.unwrap_or_default(),
            models_small: layer.models.small,
            asks: layer.asks.complete(layer.permissions.unwrap_or_default()).expect(all),
        }
    }
}

fn mib(count: NonZeroU32) -> u64 {
    u64::from(count.get()) << 20
}

fn gib(count: NonZeroU32) -> u64 {
    u64::from(count.get()) << 30
}

fn read_file(named: Option<&Path>, data: &Path) -> Result<Layer, Problem> {
    let path = named.map_or_else(|| data.join(FILE_NAME), Path::to_owned);
    match fs::read_to_string(&path) {
        Ok(text) => parse_file(&path, &text),
        Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => Ok(Layer::default()),
        Err(error) => {
            let message = format!("The settings file {} cannot be read: {error}.", path.display());
            Err(Problem::new(ErrorCode::SettingsInvalid, message))
        }
    }
}

fn parse_file(path: &Path, text: &str) -> Result<Layer, Problem> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        let what = error.message().trim_end_matches('.').replace('\n', "; ");
        Problem::new(ErrorCode::SettingsInvalid, format!("{}, line {line}: {what}.", path.display()))
            .hint("docs/settings.md lists every setting.")
            .detail(error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Layer, Problem> {
        parse_file(Path::new("/data/greenroom.toml"), text)
    }

    fn env(pairs: &[(&str, &str)]) -> Result<Layer, Problem> {
        let find =
            |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, text)| (*text).to_owned());
        Layer::from_env(&find)
    }

    fn port(flag: &str, variable: &str, in_file: &str) -> u16 {
        let listen = |text: &str| Layer { listen: text.parse().ok(), ..Layer::default() };
        let settings = Settings::resolve("/data".into(), listen(flag), listen(variable), listen(in_file));
        settings.listen.port()
    }

    #[test]
    fn flags_come_before_the_environment_before_the_file_before_defaults() {
        assert_eq!(port("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"), 1);
        assert_eq!(port("", "127.0.0.1:2", "127.0.0.1:3"), 2);
        assert_eq!(port("", "", "127.0.0.1:3"), 3);
        assert_eq!(port("", "", ""), 7878);
    }

    #[test]
    fn there_is_a_blank_for_every_sandbox_that_may_run_up_to_a_bound_unless_told() {
        let blanks = |text: &str| {
            let file = file(text).unwrap();
            Settings::resolve("/data".into(), Layer::default(), Layer::default(), file).blanks
        };
        assert_eq!(blanks("max_sandboxes = 30"), 30);
        assert_eq!(blanks("max_sandboxes = 1000"), 128);
        assert_eq!(blanks("max_sandboxes = 30\nblanks = 2"), 2);
    }

    #[test]
    fn the_file_and_the_environment_set_the_same_things() {
        let text = "listen = '0.0.0.0:80'\npublic_origin = 'https://code.example'\nmax_sandboxes = 3\n\
            volume_gib = 40\nsandbox_disk_gib = 7\nlayers_gib = 30\nblanks = 8\nsession_idle_seconds = 9\nsessions_awake = 11\ndelivery_seconds = 13\nsnapshots_kept = 4\nfile_mib = 5\nsession_files_mib = 50\nsession_archive_mib = 60\nimage_schedule_minutes = 0\nimages_kept = 5\nfailed_builds_kept_days = 6\n\
            image_registries = ['registry.example.com', '127.0.0.1:5000']\ndrain_seconds = 12\nready_free_mib = 64\ntrusted_proxies = ['10.0.0.0/8', '::1']\nmetrics_listen = '127.0.0.1:9464'\notlp_endpoint = 'http://127.0.0.1:4318'\n[backup]\nhours = 6\ndirectory = '/backups'\nkeep = 3\n[rate]\nperson_per_minute = 5\naddress_per_minute = 6\n[retention]\narchive_idle_days = 30\ndelete_archived_days = 90\nstatistics_days = 0\nshare_links_days = 7\n[spawn]\ndepth = 1\nat_once = 4\nin_all = 8\n[models]\ncatalog = '/models.toml'\nfallback = ['backup', 'local']\nsmall = 'fast'\n[log]\nformat = 'json'\nfilter = 'info,hyper=warn'\n[pool]\nfloor = 2\ncap = 3\nmost = 5\n\
            [budget]\ntokens = 9\ncost_usd = 1.5\nwall_minutes = 2\ntool_calls = 7\n[asks]\nwait_minutes = 3\nunattended = 'end_turn'\n[[permissions]]\npermission = 'bash'\npattern = 'git push *'\naction = 'ask'\n[[permissions]]\npermission = 'publish'\naction = 'deny'\n";
        let from_env = env(&[
            ("GREENROOM_LISTEN", "0.0.0.0:80"),
            ("GREENROOM_PUBLIC_ORIGIN", "https://code.example"),
            ("GREENROOM_MAX_SANDBOXES", "3"),
            ("GREENROOM_VOLUME_GIB", "40"),
            ("GREENROOM_SANDBOX_DISK_GIB", "7"),
            ("GREENROOM_LAYERS_GIB", "30"),
            ("GREENROOM_BLANKS", "8"),
            ("GREENROOM_SESSION_IDLE_SECONDS", "9"),
            ("GREENROOM_SESSIONS_AWAKE", "11"),
            ("GREENROOM_DELIVERY_SECONDS", "13"),
            ("GREENROOM_SNAPSHOTS_KEPT", "4"),
            ("GREENROOM_FILE_MIB", "5"),
            ("GREENROOM_SESSION_FILES_MIB", "50"),
            ("GREENROOM_SESSION_ARCHIVE_MIB", "60"),
            ("GREENROOM_IMAGE_SCHEDULE_MINUTES", "0"),
            ("GREENROOM_IMAGES_KEPT", "5"),
            ("GREENROOM_FAILED_BUILDS_KEPT_DAYS", "6"),
            ("GREENROOM_IMAGE_REGISTRIES", "registry.example.com,127.0.0.1:5000"),
            ("GREENROOM_DRAIN_SECONDS", "12"),
            ("GREENROOM_READY_FREE_MIB", "64"),
            ("GREENROOM_TRUSTED_PROXIES", "10.0.0.0/8,::1"),
            ("GREENROOM_RATE_PERSON_PER_MINUTE", "5"),
            ("GREENROOM_BACKUP_HOURS", "6"),
            ("GREENROOM_BACKUP_DIRECTORY", "/backups"),
            ("GREENROOM_BACKUP_KEEP", "3"),
            ("GREENROOM_RATE_ADDRESS_PER_MINUTE", "6"),
            ("GREENROOM_RETENTION_ARCHIVE_IDLE_DAYS", "30"),
            ("GREENROOM_RETENTION_DELETE_ARCHIVED_DAYS", "90"),
            ("GREENROOM_RETENTION_STATISTICS_DAYS", "0"),
            ("GREENROOM_RETENTION_SHARE_LINKS_DAYS", "7"),
            ("GREENROOM_SPAWN_DEPTH", "1"),
            ("GREENROOM_SPAWN_AT_ONCE", "4"),
            ("GREENROOM_SPAWN_IN_ALL", "8"),
            ("GREENROOM_METRICS_LISTEN", "127.0.0.1:9464"),
            ("GREENROOM_OTLP_ENDPOINT", "http://127.0.0.1:4318"),
            ("GREENROOM_MODELS_CATALOG", "/models.toml"),
            ("GREENROOM_MODELS_FALLBACK", "backup,local"),
            ("GREENROOM_MODELS_SMALL", "fast"),
            ("GREENROOM_LOG_FORMAT", "json"),
            ("GREENROOM_LOG_FILTER", "info,hyper=warn"),
            ("GREENROOM_POOL_FLOOR", "2"),
            ("GREENROOM_POOL_CAP", "3"),
            ("GREENROOM_POOL_MOST", "5"),
            ("GREENROOM_BUDGET_TOKENS", "9"),
            ("GREENROOM_BUDGET_COST_USD", "1.5"),
            ("GREENROOM_BUDGET_WALL_MINUTES", "2"),
            ("GREENROOM_BUDGET_TOOL_CALLS", "7"),
            ("GREENROOM_ASKS_WAIT_MINUTES", "3"),
            ("GREENROOM_ASKS_UNATTENDED", "end_turn"),
            ("GREENROOM_PERMISSIONS", "ask bash git push *;deny publish"),
        ]);
        let none = Layer::default;
        let by_file = Settings::resolve("/data".into(), none(), none(), file(text).unwrap());
        let by_env = Settings::resolve("/data".into(), none(), from_env.unwrap(), none());
        assert_eq!(by_file, by_env);
        assert_eq!(by_file.budget.cost_microusd, 1_500_000);
        assert_eq!(by_file.budget.wall_ms, 120_000);
        assert_eq!((by_file.retention.archive_idle_days, by_file.retention.delete_archived_days), (30, 90));
        assert_eq!((by_file.volume_bytes, by_file.layers_bytes), (Some(40 << 30), Some(30 << 30)));
        assert_eq!(by_file.spawn, SpawnLimits { depth: 1, at_once: 4, in_all: 8 });
        assert_eq!(by_file.models_fallback, ["backup", "local"]);
        assert_eq!(by_file.sandbox_disk_bytes, 7 << 30);
        assert_eq!(by_file.hibernation, Hibernation { idle: Duration::from_secs(9), most_awake: 11 });
        assert_eq!(by_file.retries.deadline, Duration::from_secs(13));
        assert_eq!(by_file.asks.patience, Duration::from_secs(180));
        assert_eq!((by_file.asks.rules[0].pattern.as_str(), by_file.asks.rules.len()), ("git push *", 2));
    }

    #[test]
    fn a_bad_setting_names_its_place() {
        let problem = file("listen = '127.0.0.1:1'\nmax_sandboxs = 3\n").unwrap_err();
        assert_eq!(problem.code, ErrorCode::SettingsInvalid);
        assert!(
            problem.message.starts_with("/data/greenroom.toml, line 2: unknown field"),
            "{}",
            problem.message
        );
        let problem = file("\n\n[budget]\ncost_usd = -1\n").unwrap_err();
        assert!(problem.message.contains("line 4"), "{}", problem.message);
        let problem = env(&[("GREENROOM_MAX_SANDBOXES", "many")]).unwrap_err();
        assert!(problem.message.starts_with("GREENROOM_MAX_SANDBOXES"), "{}", problem.message);
        assert!(env(&[("GREENROOM_PUBLIC_ORIGIN", "https://code.example/path")]).is_err());
        assert!(env(&[("GREENROOM_MAX_SANDBOXES", "0")]).is_err());
        assert!(env(&[("GREENROOM_BLANKS", "129")]).is_err());
        assert!(env(&[("GREENROOM_LOG_FILTER", "loudly=maybe")]).is_err());
        assert!(env(&[("GREENROOM_OTLP_ENDPOINT", "ftp://127.0.0.1")]).is_err());
        assert!(env(&[("GREENROOM_OTLP_ENDPOINT", "http://a:b@127.0.0.1")]).is_err());
        assert!(env(&[("GREENROOM_VOLUME_GIB", "1")]).is_err());
        assert!(env(&[("GREENROOM_TRUSTED_PROXIES", "proxy.example")]).is_err());
        assert!(env(&[("GREENROOM_ASKS_WAIT_MINUTES", "10081")]).is_err());
        assert!(env(&[("GREENROOM_ASKS_UNATTENDED", "shrug")]).is_err());
        for rule in ["never bash", "ask", "ask bash *;", ""] {
            assert!(env(&[("GREENROOM_PERMISSIONS", rule)]).is_err(), "{rule:?}");
        }
        let problem = file("[[permissions]]\npermission = 'bash'\naction = 'maybe'\n").unwrap_err();
        assert!(problem.message.contains("line 3"), "{}", problem.message);
        let problem = file("volume_gib = 5000\n").unwrap_err();
        assert!(problem.message.contains("expected 2 to 1024 GiB"), "{}", problem.message);
    }

    #[test]
    fn the_default_budget_is_the_domains() {
        let none = Layer::default;
        let settings = Settings::resolve("/data".into(), none(), none(), none());
        assert_eq!(settings.budget, Budget::default());
    }

    #[test]
    fn docs_settings_md_is_what_the_program_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/settings.md");
        let written = fs::read_to_string(path).unwrap_or_default();
        assert!(written == reference(), "docs/settings.md is out of date: run `cargo xtask generate`");
    }
}
