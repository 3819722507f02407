//! Carries out a plan: part by part, each in its own sandbox, and removes everything temporary however it ends.

use super::failure::{self, What};
use super::log::{BuildLog, OUTPUT_LIMIT_BYTES, Tail};
use super::plan::{Part, Work};
use super::progress::{BuildEvent, Progress};
use super::sandbox::{BuildSandbox, Next};
use super::{BuildFailure, BuildPlan, Builder, WORKSPACE, build_fence};
use crate::environment::environment;
use crate::manifest::{CheckReport, ImageBase, ImageManifest, LayerRef, MANIFEST_VERSION, PartReport};
use crate::recipe::Check;
use greenroom_domain::Problem;
use greenroom_sandbox::{Base, ClaimSpec, ExecSpec, ExitReason, Workspace};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The values come by environment, so that no name is ever shell text. Overlays change inode and ctime, hence the two
/// `core` settings; a background `gc` would copy packs into every session.
pub(super) const CLONE_SCRIPT: &str = r#"
git init -q /workspace
cd /workspace
git symbolic-ref HEAD "refs/heads/$GREENROOM_BRANCH"
git config core.trustctime false
git config core.checkStat minimal
git config gc.auto 0
git config maintenance.auto false
git remote add origin "$GREENROOM_CLONE_URL"
git fetch -q origin "+refs/heads/$GREENROOM_BRANCH:refs/remotes/origin/$GREENROOM_BRANCH"
git checkout -q -B "$GREENROOM_BRANCH" "$GREENROOM_COMMIT"
git branch -q --set-upstream-to="origin/$GREENROOM_BRANCH"
git update-index -q --refresh
echo "cloned at $GREENROOM_COMMIT"
"#;

/// Excludes are anchored and escaped; a newline in a name becomes a `?`, which matches it.
pub(super) const FINISH_SCRIPT: &str = r#"
cd /workspace
git checkout -q -f -B "$GREENROOM_BRANCH" "$GREENROOM_COMMIT"
mkdir -p .git/info
git ls-files -z --others --exclude-standard --directory --no-empty-directory | tr '\n\000' '\001\n' \
  | head -n 4096 | sed -e 's/[][\\*?]/\\&/g' -e 's#^#/#' | tr '\001' '?' >> .git/info/exclude || true
git update-index -q --refresh || true
"#;

const CLONE_MINUTES: u32 = 20;
const FINISH_MINUTES: u32 = 10;

/// bash where there is one, for `pipefail`.
const SHELL: &str =
    r#"if command -v bash >/dev/null 2>&1; then exec bash -eo pipefail -c "$1"; fi; exec sh -euc "$1""#;

#[derive(Debug)]
pub(super) struct Run {
    builder: Builder,
    plan: BuildPlan,
    progress: Progress,
    cancel: CancellationToken,
    env: Vec<(String, String)>,
    /// Published layers so far, lowest first.
    layers: Vec<LayerRef>,
    parts: Vec<PartReport>,
    checks: Vec<CheckReport>,
    runs: u32,
}

/// One program to run.
struct Program<'a> {
    what: What<'a>,
    name: &'a str,
    script: &'a str,
    minutes: u32,
}

type Ended = (ExitReason, u64, Tail);

impl Run {
    pub(super) fn new(
        builder: Builder,
        plan: BuildPlan,
        progress: mpsc::Sender<BuildEvent>,
        cancel: CancellationToken,
    ) -> Self {
        let env = environment(&plan.request.setup.env, &plan.recipe.env);
        Self {
            builder,
            plan,
            progress: Progress::new(progress),
            cancel,
            env,
            layers: Vec::new(),
            parts: Vec::new(),
            checks: Vec::new(),
            runs: 0,
        }
    }

    pub(super) async fn finish(mut self) -> Result<ImageManifest, BuildFailure> {
        let image = self.plan.request.image;
        let result = self.build().await;
        if let Err(error) = self.builder.layers.discard(&self.builder.layers.build_directory(image)) {
            tracing::warn!(%error, "a build's directory is left over");
        }
        result
    }

    async fn build(&mut self) -> Result<ImageManifest, BuildFailure> {
        let directory = self.builder.layers.image_directory(self.plan.request.image);
        let mut log = BuildLog::create(&directory)
            .await
            .map_err(|error| failure::io(&error, &format!("create {}: {error}", directory.display())))?;
        let parts = self.plan.parts.clone();
        let names = parts.iter().map(|part| part.name.clone()).collect();
        let commit = self.plan.commit.clone();
        self.progress.turning_point(BuildEvent::Planned { commit, parts: names }).await;
        for part in &parts {
            if let Err(failure) = self.part(part, &mut log).await {
                let _ = log.note(&format!("failed: {}", failure.problem)).await;
                return Err(failure);
            }
        }
        self.publish(&directory).await.map_err(BuildFailure::from)
    }

    /// Reuses the part's layer or makes it.
    async fn part(&mut self, part: &Part, log: &mut BuildLog) -> Result<(), BuildFailure> {
        let reused = self.builder.layers.get(&part.key);
        let started_ms = (self.builder.clock)();
        let is_reused = reused.is_some();
        match reused {
            Some(meta) => {
                self.checks.extend(meta.checks);
                let _ = log.note(&format!("{} (reused)", part.name)).await;
                self.progress.turning_point(BuildEvent::Reused { step: part.name.clone() }).await;
            }
            None => self.make(part, log).await?,
        }
        let duration_ms = if is_reused { 0 } else { self.since(started_ms) };
        self.layers.push(LayerRef { key: part.key.clone(), step: part.name.clone() });
        self.parts.push(PartReport {
            name: part.name.clone(),
            key: part.key.clone(),
            is_reused,
            duration_ms,
        });
        Ok(())
    }

    /// One sandbox, its work, its layer. The sandbox is ended on every way out.
    async fn make(&mut self, part: &Part, log: &mut BuildLog) -> Result<(), BuildFailure> {
        let of_part = |problem| BuildFailure { problem, step: Some(part.name.clone()) };
        if self.cancel.is_cancelled() {
            return Err(of_part(failure::cancelled()));
        }
        let sandbox = self.claim().await.map_err(of_part)?;
        let worked = self.work(part, &sandbox, log).await;
        let layer = match worked {
            Ok(()) => sandbox.suspend().await.map_err(of_part),
            Err(failure) => Err(failure),
        };
        match layer {
            Ok(directory) => self.keep(part, directory).await.map_err(of_part),
            Err(failure) => {
                sandbox.destroy().await;
                Err(failure)
            }
        }
    }

    async fn claim(&mut self) -> Result<BuildSandbox, Problem> {
        self.runs += 1;
        let image = self.plan.request.image;
        let directory = self.builder.layers.build_directory(image).join(self.runs.to_string());
        tokio::fs::create_dir_all(&directory)
            .await
            .map_err(|error| failure::io(&error, &format!("make {}: {error}", directory.display())))?;
        let spec = ClaimSpec {
            id: format!("{image}-{}", self.runs),
            fence: build_fence(image),
            base: Base::HostRoot,
            layers: self.layers.iter().map(|layer| self.builder.layers.path(&layer.key)).collect(),
            workspace: Workspace { directory, begin_from: None },
            binds: self.plan.request.setup.binds.clone(),
            egress_ports: self.plan.recipe.egress_ports(),
            resources: self.plan.recipe.resources.to_sandbox(),
            hostname: "greenroom-build".into(),
            env: self.env.clone(),
            is_background: true,
        };
        BuildSandbox::claim(&self.builder.sandboxes, spec).await
    }

    async fn work(
        &mut self,
        part: &Part,
        sandbox: &BuildSandbox,
        log: &mut BuildLog,
    ) -> Result<(), BuildFailure> {
        let of = |problem, name: &str| BuildFailure { problem, step: Some(name.to_owned()) };
        let repository = self.plan.request.name.clone();
        let program = match &part.work {
            Work::Clone => {
                for (path, bytes) in &self.plan.request.setup.files {
                    sandbox.write(path, bytes).await.map_err(|problem| of(problem, &part.name))?;
                }
                Program {
                    what: What::Clone { repository: repository.as_str() },
                    name: &part.name,
                    script: CLONE_SCRIPT,
                    minutes: CLONE_MINUTES,
                }
            }
            Work::Step(step) => Program {
                what: What::Step,
                name: &part.name,
                script: &step.run,
                minutes: step.timeout_minutes,
            },
            Work::Finish => {
                for check in self.plan.recipe.checks.clone() {
                    self.check(&check, sandbox, log).await.map_err(|problem| of(problem, &check.name))?;
                }
                Program {
                    what: What::Finish,
                    name: &part.name,
                    script: FINISH_SCRIPT,
                    minutes: FINISH_MINUTES,
                }
            }
        };
        let (reason, _, tail) =
            self.run(&program, sandbox, log).await.map_err(|problem| of(problem, &part.name))?;
        if reason == (ExitReason::Code { code: 0 }) {
            return Ok(());
        }
        let problem = failure::exit(program.what, program.name, reason, program.minutes, &tail.text());
        Err(of(problem, &part.name))
    }

    async fn check(
        &mut self,
        check: &Check,
        sandbox: &BuildSandbox,
        log: &mut BuildLog,
    ) -> Result<(), Problem> {
        let program = Program {
            what: What::Check,
            name: &check.name,
            script: &check.run,
            minutes: check.timeout_minutes,
        };
        let (outcome, duration_ms, tail) = self.run(&program, sandbox, log).await?;
        let report =
            CheckReport { name: check.name.clone(), is_optional: check.is_optional, outcome, duration_ms };
        if !report.has_passed() && !check.is_optional {
            return Err(failure::exit(
                program.what,
                &check.name,
                outcome,
                check.timeout_minutes,
                &tail.text(),
            ));
        }
        self.checks.push(report);
        Ok(())
    }

    /// Runs a program to its end, whatever that is, and streams its output.
    async fn run(
        &mut self,
        program: &Program<'_>,
        sandbox: &BuildSandbox,
        log: &mut BuildLog,
    ) -> Result<Ended, Problem> {
        let step = program.name.to_owned();
        let started_ms = (self.builder.clock)();
        let write_error =
            |error: std::io::Error| failure::io(&error, &format!("write the build's log: {error}"));
        log.heading(&step).await.map_err(write_error)?;
        self.progress.turning_point(BuildEvent::StepStarted { step: step.clone() }).await;
        let spec = self.exec_spec(program);
        let mut running = sandbox.start(spec).await?;
        let mut tail = Tail::default();
        let outcome = loop {
            match sandbox.next(&mut running, &self.cancel).await {
                Next::Output(bytes) => {
                    tail.push(&bytes);
                    let (offset, kept) = log.output(&bytes).await.map_err(write_error)?;
                    if kept > 0 {
                        self.progress.output(&step, offset, bytes[..kept].to_vec());
                    }
                }
                Next::Exit(reason) => break reason,
                Next::Lost => return Err(failure::lost(&step, &tail.text())),
                Next::Cancelled => return Err(failure::cancelled()),
            }
        };
        let duration_ms = self.since(started_ms);
        self.progress.turning_point(BuildEvent::StepFinished { step, outcome, duration_ms }).await;
        Ok((outcome, duration_ms, tail))
    }

    fn exec_spec(&mut self, program: &Program<'_>) -> ExecSpec {
        self.runs += 1;
        let request = &self.plan.request;
        let is_clone = matches!(program.what, What::Clone { .. });
        let is_ours = is_clone || program.what == What::Finish;
        let mut env = vec![("GIT_TERMINAL_PROMPT".to_owned(), "0".to_owned())];
        if is_ours {
            env.push(("GREENROOM_CLONE_URL".into(), request.clone_url.clone()));
            env.push(("GREENROOM_BRANCH".into(), request.branch.to_string()));
            env.push(("GREENROOM_COMMIT".into(), self.plan.commit.to_string()));
        }
        ExecSpec {
            call: format!("{}-{}", request.image, self.runs),
            argv: ["/bin/sh", "-c", SHELL, "sh", program.script].map(str::to_owned).to_vec(),
            cwd: if is_clone { "/" } else { WORKSPACE }.to_owned(),
            env,
            stdin: Vec::new(),
            timeout_ms: u64::from(program.minutes) * 60_000,
            output_limit_bytes: OUTPUT_LIMIT_BYTES,
        }
    }

    async fn keep(&self, part: &Part, directory: PathBuf) -> Result<(), Problem> {
        let (layers, part, now_ms) = (self.builder.layers.clone(), part.clone(), (self.builder.clock)());
        let checks = if matches!(part.work, Work::Finish) { self.checks.clone() } else { Vec::new() };
        blocking(move || layers.publish(&part.key, &directory, &part.name, checks, now_ms))
            .await?
            .map(drop)
            .map_err(|error| failure::store(&error))
    }

    async fn publish(&mut self, directory: &Path) -> Result<ImageManifest, Problem> {
        let (plan, request) = (&self.plan, &self.plan.request);
        let manifest = ImageManifest {
            version: MANIFEST_VERSION,
            id: request.image,
            repository: request.repository,
            commit: plan.commit.clone(),
            branch: request.branch.clone(),
            runtime_version: plan.runtime_version.clone(),
            base_fingerprint: self.builder.base_fingerprint.clone(),
            base: ImageBase::Host,
            layers: std::mem::take(&mut self.layers),
            env: plan.recipe.env.iter().map(|(k, v)| (k.clone(), v.clone())).collect::<BTreeMap<_, _>>(),
            egress_allow: plan.recipe.egress_allow.clone(),
            egress_ports: plan.recipe.egress_ports(),
            secrets: plan.recipe.secrets.clone(),
            resources: plan.recipe.resources.clone(),
            instructions: plan.instructions.clone(),
            steps: plan.recipe.steps.clone(),
            services: plan.recipe.services.clone(),
            ports: plan.recipe.ports.clone(),
            parts: std::mem::take(&mut self.parts),
            checks: std::mem::take(&mut self.checks),
            created_at_ms: (self.builder.clock)(),
        };
        let directory = directory.to_owned();
        let written = manifest.clone();
        blocking(move || written.write(&directory)).await?.map_err(|error| failure::manifest(&error))?;
        Ok(manifest)
    }

    fn since(&self, started_ms: i64) -> u64 {
        u64::try_from((self.builder.clock)() - started_ms).unwrap_or(0)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        let code = greenroom_domain::ErrorCode::Internal;
        Problem::new(code, format!("The build ended by a fault: {error}."))
    })
}

#[cfg(test)]
mod tests;
