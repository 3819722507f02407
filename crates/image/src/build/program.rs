//! Running one program of a build: its script in the sandbox's shell, its output to log, tail and viewers, its end judged.

use super::failure::{self, What};
use super::log::{BuildLog, OUTPUT_LIMIT_BYTES, Tail};
use super::progress::BuildEvent;
use super::run::Run;
use super::sandbox::{BuildSandbox, Next};
use super::{BuildFailure, WORKSPACE, scripts};
use crate::manifest::CheckReport;
use crate::recipe::Check;
use greenroom_domain::Problem;
use greenroom_sandbox::{ExecSpec, ExitReason};

/// One program to run.
pub(super) struct Program<'a> {
    pub(super) what: What<'a>,
    pub(super) name: &'a str,
    pub(super) script: &'a str,
    pub(super) minutes: u32,
}

type Ended = (ExitReason, u64, Tail);

impl Run {
    /// A program that must succeed, with these services up.
    pub(super) async fn must(
        &mut self,
        program: &Program<'_>,
        services: &[String],
        sandbox: &BuildSandbox,
        log: &mut BuildLog,
    ) -> Result<(), BuildFailure> {
        let of = |problem| BuildFailure { problem, step: Some(program.name.to_owned()) };
        let (reason, _, tail) = self.run(program, services, sandbox, log).await.map_err(of)?;
        if reason == (ExitReason::Code { code: 0 }) {
            return Ok(());
        }
        Err(of(failure::exit(program.what, program.name, reason, program.minutes, &tail.text())))
    }

    pub(super) async fn check(
        &mut self,
        check: &Check,
        sandbox: &BuildSandbox,
        log: &mut BuildLog,
    ) -> Result<CheckReport, Problem> {
        let program = Program {
            what: What::Check,
            name: &check.name,
            script: &check.run,
            minutes: check.timeout_minutes,
        };
        let (outcome, duration_ms, tail) = self.run(&program, &check.services, sandbox, log).await?;
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
        Ok(report)
    }

    /// Runs a program to its end, whatever that is, and streams its output. Services are up before it and down after it.
    async fn run(
        &mut self,
        program: &Program<'_>,
        services: &[String],
        sandbox: &BuildSandbox,
        log: &mut BuildLog,
    ) -> Result<Ended, Problem> {
        let step = program.name.to_owned();
        let started_ms = (self.builder.clock)();
        log.heading(&step).await.map_err(|error| write_error(&error))?;
        self.progress.turning_point(BuildEvent::StepStarted { step: step.clone() }).await;
        let up = self.start_services(services, sandbox, log).await?;
        let ended = self.follow(program, sandbox, log).await;
        up.stop(sandbox).await;
        let (outcome, tail) = ended?;
        let duration_ms = self.since(started_ms);
        self.progress.turning_point(BuildEvent::StepFinished { step, outcome, duration_ms }).await;
        Ok((outcome, duration_ms, tail))
    }

    async fn follow(
        &mut self,
        program: &Program<'_>,
        sandbox: &BuildSandbox,
        log: &mut BuildLog,
    ) -> Result<(ExitReason, Tail), Problem> {
        let spec = self.exec_spec(program);
        let mut running = sandbox.start(spec).await?;
        let mut tail = Tail::default();
        loop {
            match sandbox.next(&mut running, &self.cancel).await {
                Next::Output(bytes) => {
                    tail.push(&bytes);
                    let (offset, kept) = log.output(&bytes).await.map_err(|error| write_error(&error))?;
                    if kept > 0 {
                        self.progress.output(program.name, offset, bytes[..kept].to_vec());
                    }
                }
                Next::Exit(reason) => return Ok((reason, tail)),
                Next::Lost => return Err(failure::lost(program.name, &tail.text())),
                Next::Cancelled => return Err(failure::cancelled()),
            }
        }
    }

    fn exec_spec(&mut self, program: &Program<'_>) -> ExecSpec {
        let is_clone = matches!(program.what, What::Clone { .. });
        let is_ours = is_clone || program.what == What::Finish;
        let mut env = vec![("GIT_TERMINAL_PROMPT".to_owned(), "0".to_owned())];
        if is_ours {
            let request = &self.plan.request;
            env.push(("GREENROOM_CLONE_URL".into(), request.clone_url.clone()));
            env.push(("GREENROOM_BRANCH".into(), request.branch.to_string()));
            env.push(("GREENROOM_COMMIT".into(), self.plan.commit.to_string()));
        }
        ExecSpec {
            call: self.next_call(),
            argv: shell(program.script),
            cwd: if is_clone || program.script == scripts::GIT { "/" } else { WORKSPACE }.to_owned(),
            env,
            stdin: Vec::new(),
            timeout_ms: u64::from(program.minutes) * 60_000,
            output_limit_bytes: OUTPUT_LIMIT_BYTES,
            is_read_only: false,
        }
    }
}

pub(super) fn shell(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", scripts::SHELL, "sh", script].map(str::to_owned).to_vec()
}

fn write_error(error: &std::io::Error) -> Problem {
    failure::io(error, &format!("write the build's log: {error}"))
}
