//! `greenroom serve`: settings, one server, until it is told to stop.

use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::server::{self, Options, Server, Stop};
use crate::settings::{LogFormat, ServeFlags, Settings};
use greenroom_domain::{ErrorCode, Problem};
use greenroom_sandboxd::VolumeSettings;
use std::path::Path;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;
use url::Url;

pub(crate) fn serve(data: Option<&Path>, flags: ServeFlags, out: Output) -> Result<Exit, Failure> {
    let settings = Settings::load(data, flags)?;
    log_to_stderr(settings.log_format, &settings.log_filter);
    crate::heap::bound();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let exit = runtime.block_on(run(options(settings)?, out));
    // Nothing is waited for any more: what a thread still does would be cut off by a crash as well.
    runtime.shutdown_background();
    exit
}

async fn run(options: Options, out: Output) -> Result<Exit, Failure> {
    let patience = options.drain;
    let mut signals = Signals::listen()?;
    let server = server::start(options).await?;
    greet(&server, out).await?;
    signals.stop().await;
    out.progress(&match server.app.begin_drain() {
        0 => "Stopping.\n".to_owned(),
        turns => format!(
            "Stopping: running turns ({turns}) have {} s to finish, then go on after the next start. A second signal ends the server at once.\n",
            patience.as_secs()
        ),
    });
    tokio::select! {
        stopped = server.stop() => Ok(match stopped {
            Stop::InOrder => Exit::Done,
            Stop::GivenUp => {
                tracing::error!("the server did not stop in time and is ended as it is");
                Exit::Failed
            }
        }),
        () = signals.stop() => Ok(Exit::Terminated),
    }
}

fn options(settings: Settings) -> Result<Options, Problem> {
    let public_origin: Option<Url> =
        settings.public_origin.map(|text| text.parse()).transpose().map_err(|error| {
            Problem::new(ErrorCode::SettingsInvalid, format!("public_origin is not a URL: {error}."))
        })?;
    let product = public_origin.as_ref().and_then(Url::host_str).unwrap_or_default();
    if let Some(domain) = settings.preview_domain.as_ref().filter(|domain| domain.is_too_near(product)) {
        let message =
            format!("preview_domain {domain} and the public origin's {product} lie in one another.");
        return Err(Problem::new(ErrorCode::SettingsInvalid, message)
            .hint("Pages of previews could set cookies for Greenroom: use a domain of its own, best one that shares no registered name with it."));
    }
    if let (Some(volume), Some(layers)) = (settings.volume_bytes, settings.layers_bytes)
        && layers > volume
    {
        let message = format!("layers_gib {} is more than volume_gib {}.", layers >> 30, volume >> 30);
        return Err(Problem::new(ErrorCode::SettingsInvalid, message)
            .hint("Layers lie on the volume, beside workspaces and snapshots: give them a part of it."));
    }
    if let Err(reason) = greenroom_domain::permission::check(&settings.asks.rules) {
        return Err(Problem::new(ErrorCode::SettingsInvalid, format!("permissions: {reason}")));
    }
    Ok(Options {
        data: settings.data,
        listen: settings.listen,
        metrics_listen: settings.metrics_listen,
        otlp_endpoint: settings.otlp_endpoint,
        public_origin,
        preview_domain: settings.preview_domain,
        budget: settings.budget,
        max_sandboxes: settings.max_sandboxes as usize,
        pool: settings.pool,
        blanks: settings.blanks as usize,
        volume: VolumeSettings { size_bytes: settings.volume_bytes },
        sandbox_disk: settings.sandbox_disk_bytes,
        layers_limit: settings.layers_bytes,
        hibernation: settings.hibernation,
        retries: settings.retries,
        snapshots_kept: settings.snapshots_kept as usize,
        asks: settings.asks,
        attachments: settings.attachments,
        archive_bytes: settings.archive_bytes,
        image_schedule: schedule(settings.image_schedule_minutes),
        image_history: greenroom_app::ImageHistory {
            good: settings.images_kept as usize,
            failed_days: settings.failed_builds_kept_days,
        },
        retention: settings.retention,
        spawn: settings.spawn,
        image_registries: settings.image_registries,
        drain: Duration::from_secs(settings.drain_seconds.into()),
        ready_free_bytes: settings.ready_free_bytes,
        trusted_proxies: settings.trusted_proxies,
        rates: settings.rates,
        backups: settings.backups,
        models: greenroom_app::ModelSettings {
            catalog: match &settings.models_catalog {
                Some(path) => greenroom_model::Catalog::read(path)?,
                None => greenroom_model::Catalog::default(),
            },
            fallback: settings.models_fallback,
            small: settings.models_small,
        },
        provider: None,
    })
}

/// 0 minutes: on demand only.
fn schedule(minutes: u32) -> Option<Duration> {
    (minutes > 0).then(|| Duration::from_secs(60 * u64::from(minutes)))
}

async fn greet(server: &Server, out: Output) -> Result<(), Failure> {
    out.text(&format!("Greenroom is at {}\n", server.origin))?;
    if let Some((login, path)) = server.app.first_admin_link().await? {
        out.text(&format!(
            "Choose a password for the first admin, {login}, here (once): {}{path}\n",
            server.origin
        ))?;
    }
    let lost: Vec<_> =
        server.app.capabilities().capabilities.into_iter().filter(|found| !found.is_available).collect();
    if !lost.is_empty() {
        let names: Vec<String> = lost.into_iter().map(|capability| capability.name).collect();
        let names = names.join(", ");
        out.text(&format!(
            "Not on this machine: {names}. What that costs, and what changes it: greenroom doctor\n"
        ))?;
    }
    Ok(())
}

/// Ctrl-C, or SIGTERM from a service manager.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// None is missed from now on.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate })
    }

    /// Waits for the next.
    pub(crate) async fn stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// `RUST_LOG` chooses what is logged; without it, `filter` does.
pub(crate) fn log_to_stderr(format: LogFormat, filter: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Fails only when a subscriber is set already, as in tests.
    let is_ours = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    if is_ours.is_ok() {
        greenroom_tasks::log_panics();
    }
}
