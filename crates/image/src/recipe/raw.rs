//! The recipe's text as serde reads it, and its way to a checked `Recipe`: every value goes through `check`, counts are
//! bounded, names are unique, and steps name only services that are declared.

use super::text::{Checked, Complaint};
use super::{Check, Port, Probe, Ready, Recipe, RecipeBase, RecipeResources, Service, Step, check, limit};
use crate::recipe::{DEFAULT_READY_SECONDS, DEFAULT_TIMEOUT_MINUTES};
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use toml::Spanned;

type Text = Spanned<String>;
type Names = HashSet<String>;

const PORTS: std::ops::RangeInclusive<i64> = 1..=65535;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRecipe {
    base: Option<Text>,
    #[serde(default)]
    secrets: Vec<Text>,
    #[serde(default)]
    steps: Vec<Spanned<RawStep>>,
    #[serde(default)]
    checks: Vec<Spanned<RawCheck>>,
    #[serde(default)]
    services: Vec<Spanned<RawService>>,
    #[serde(default)]
    ports: Vec<Spanned<RawPort>>,
    #[serde(default)]
    env: BTreeMap<String, Text>,
    #[serde(default)]
    egress: RawEgress,
    #[serde(default)]
    resources: RawResources,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    name: Text,
    run: Text,
    #[serde(default)]
    inputs: Vec<Text>,
    #[serde(default)]
    services: Vec<Text>,
    timeout_minutes: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCheck {
    name: Text,
    run: Text,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    services: Vec<Text>,
    timeout_minutes: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawService {
    name: Text,
    run: Text,
    ready: Option<Spanned<RawReady>>,
    #[serde(default)]
    env: BTreeMap<String, Text>,
    #[serde(default)]
    restart: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReady {
    command: Option<Text>,
    port: Option<Spanned<i64>>,
    within_seconds: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPort {
    port: Spanned<i64>,
    name: Text,
    #[serde(default = "yes")]
    http: bool,
}

fn yes() -> bool {
    true
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEgress {
    #[serde(default)]
    allow: Vec<Text>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawResources {
    memory_mb: Option<Spanned<i64>>,
    cpus: Option<Spanned<f64>>,
    processes: Option<Spanned<i64>>,
}

impl RawRecipe {
    pub(super) fn check(self) -> Checked<Recipe> {
        count("steps", self.steps.len(), limit::STEPS)?;
        count("checks", self.checks.len(), limit::CHECKS)?;
        count("services", self.services.len(), limit::SERVICES)?;
        count("ports", self.ports.len(), limit::PORTS)?;
        count("secrets", self.secrets.len(), limit::SECRETS)?;
        count("allowed hosts", self.egress.allow.len(), limit::EGRESS)?;
        let mut services = Vec::with_capacity(self.services.len());
        let mut declared = Names::new();
        for service in self.services {
            services.push(service.into_inner().check(&mut declared)?);
        }
        let mut names = Names::new();
        let mut steps = Vec::with_capacity(self.steps.len());
        for step in self.steps {
            steps.push(step.into_inner().check(&mut names, &declared)?);
        }
        let mut checks = Vec::with_capacity(self.checks.len());
        for check in self.checks {
            checks.push(check.into_inner().check(&mut names, &declared)?);
        }
        Ok(Recipe {
            base: base(self.base)?,
            steps,
            checks,
            services,
            ports: ports(self.ports)?,
            env: env(self.env)?,
            egress_allow: all(self.egress.allow, check::egress)?,
            secrets: all(self.secrets, check::secret)?,
            resources: self.resources.check()?,
        })
    }
}

impl RawStep {
    fn check(self, names: &mut Names, services: &Names) -> Checked<Step> {
        count("inputs", self.inputs.len(), limit::INPUTS)?;
        Ok(Step {
            name: unique(self.name, names)?,
            run: one(self.run, check::run)?,
            inputs: all(self.inputs, check::input)?,
            services: named(self.services, services)?,
            timeout_minutes: timeout(self.timeout_minutes)?,
        })
    }
}

impl RawCheck {
    fn check(self, names: &mut Names, services: &Names) -> Checked<Check> {
        Ok(Check {
            name: unique(self.name, names)?,
            run: one(self.run, check::run)?,
            is_optional: self.optional,
            services: named(self.services, services)?,
            timeout_minutes: timeout(self.timeout_minutes)?,
        })
    }
}

impl RawService {
    fn check(self, names: &mut Names) -> Checked<Service> {
        Ok(Service {
            name: unique(self.name, names)?,
            run: one(self.run, check::run)?,
            ready: self.ready.map(ready).transpose()?,
            env: env(self.env)?,
            restart: self.restart,
        })
    }
}

fn ready(raw: Spanned<RawReady>) -> Checked<Ready> {
    let at = raw.span();
    let raw = raw.into_inner();
    let probe = match (raw.command, raw.port) {
        (Some(command), None) => Probe::Command { run: one(command, check::run)? },
        (None, Some(port)) => Probe::Port { port: port_number(port)? },
        _ => {
            let reason = "`ready` needs either a `command` or a `port`".into();
            return Err(Complaint { reason, at: Some(at) });
        }
    };
    let deadline_seconds = match raw.within_seconds {
        None => DEFAULT_READY_SECONDS,
        Some(seconds) => {
            within(&seconds, "within_seconds", limit::READY_SECONDS)?;
            u32::try_from(seconds.into_inner()).expect("the range fits")
        }
    };
    Ok(Ready { probe, deadline_seconds })
}

fn ports(raw: Vec<Spanned<RawPort>>) -> Checked<Vec<Port>> {
    let (mut names, mut numbers) = (Names::new(), HashSet::new());
    let check = |raw: Spanned<RawPort>| {
        let raw = raw.into_inner();
        let at = raw.port.span();
        let port = port_number(raw.port)?;
        if !numbers.insert(port) {
            return Err(Complaint { reason: format!("the port {port} is listed twice"), at: Some(at) });
        }
        Ok(Port { port, name: unique(raw.name, &mut names)?, is_http: raw.http })
    };
    raw.into_iter().map(check).collect()
}

fn port_number(port: Spanned<i64>) -> Checked<u16> {
    within(&port, "a port", PORTS)?;
    Ok(u16::try_from(port.into_inner()).expect("the range fits"))
}

/// Services that a step or check names.
fn named(wanted: Vec<Text>, declared: &Names) -> Checked<Vec<String>> {
    let find = |name: Text| match declared.get(name.get_ref()) {
        Some(known) => Ok(known.clone()),
        None => Err(Complaint {
            reason: format!("there is no service {:?}", super::text::shorten(name.get_ref())),
            at: Some(name.span()),
        }),
    };
    count("services", wanted.len(), limit::SERVICES)?;
    wanted.into_iter().map(find).collect()
}

impl RawResources {
    fn check(self) -> Checked<RecipeResources> {
        let whole = |value: Option<Spanned<i64>>, name: &str, range: std::ops::RangeInclusive<i64>| {
            value
                .map(|value| {
                    within(&value, name, range)?;
                    Ok(u64::try_from(value.into_inner()).expect("ranges begin above zero"))
                })
                .transpose()
        };
        Ok(RecipeResources {
            memory_mb: whole(self.memory_mb, "memory_mb", limit::MEMORY_MB)?,
            cpus: self
                .cpus
                .map(|cpus| within(&cpus, "cpus", limit::CPUS).map(|()| cpus.into_inner()))
                .transpose()?,
            processes: whole(self.processes, "processes", limit::PROCESSES)?,
        })
    }
}

fn base(base: Option<Text>) -> Checked<RecipeBase> {
    let Some(text) = base else { return Ok(RecipeBase::Host) };
    check::base(text.get_ref()).map_err(|reason| Complaint { reason, at: Some(text.span()) })
}

fn env(raw: BTreeMap<String, Text>) -> Checked<BTreeMap<String, String>> {
    count("variables", raw.len(), limit::ENV)?;
    raw.into_iter()
        .map(|(name, value)| {
            let at = value.span();
            check::variable(&name, value.get_ref()).map_err(|reason| Complaint { reason, at: Some(at) })?;
            Ok((name, value.into_inner()))
        })
        .collect()
}

fn unique(name: Text, names: &mut Names) -> Checked<String> {
    let at = name.span();
    let name = one(name, check::name)?;
    if names.insert(name.clone()) {
        return Ok(name);
    }
    Err(Complaint { reason: format!("the name {name:?} is used twice"), at: Some(at) })
}

fn timeout(minutes: Option<Spanned<i64>>) -> Checked<u32> {
    let Some(minutes) = minutes else { return Ok(DEFAULT_TIMEOUT_MINUTES) };
    within(&minutes, "timeout_minutes", limit::TIMEOUT_MINUTES)?;
    Ok(u32::try_from(minutes.into_inner()).expect("the range fits"))
}

fn one(text: Text, check: fn(&str) -> Result<(), String>) -> Checked<String> {
    let at = text.span();
    check(text.get_ref()).map_err(|reason| Complaint { reason, at: Some(at) })?;
    Ok(text.into_inner())
}

fn all(texts: Vec<Text>, check: fn(&str) -> Result<(), String>) -> Checked<Vec<String>> {
    texts.into_iter().map(|text| one(text, check)).collect()
}

fn within<T>(value: &Spanned<T>, name: &str, range: std::ops::RangeInclusive<T>) -> Checked<()>
where
    T: PartialOrd + std::fmt::Display,
{
    if range.contains(value.get_ref()) {
        return Ok(());
    }
    Err(Complaint {
        reason: format!("{name} must be between {} and {}", range.start(), range.end()),
        at: Some(value.span()),
    })
}

fn count(what: &str, found: usize, most: usize) -> Checked<()> {
    if found <= most {
        return Ok(());
    }
    Err(Complaint { reason: format!("there are {found} {what}, and at most {most} are allowed"), at: None })
}
