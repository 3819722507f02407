//! From TOML text to a recipe: the shape is checked by serde with unknown fields refused, each value by `check`, and
//! every complaint is given the line and column of what it is about.

use super::{Check, Recipe, RecipeBase, RecipeResources, Step, check, limit};
use crate::recipe::{DEFAULT_TIMEOUT_MINUTES, RECIPE_PATH};
use greenroom_domain::{ErrorCode, Problem};
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use toml::Spanned;

type Text = Spanned<String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRecipe {
    base: Option<Text>,
    #[serde(default)]
    steps: Vec<Spanned<RawStep>>,
    #[serde(default)]
    checks: Vec<Spanned<RawCheck>>,
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
    timeout_minutes: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCheck {
    name: Text,
    run: Text,
    #[serde(default)]
    optional: bool,
    timeout_minutes: Option<Spanned<i64>>,
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

/// A complaint and the bytes of the text it is about.
struct Complaint {
    reason: String,
    at: Option<Range<usize>>,
}

type Checked<T> = Result<T, Complaint>;

pub(super) fn parse(bytes: &[u8]) -> Result<Recipe, Problem> {
    if bytes.len() > limit::TEXT_BYTES {
        return Err(problem(&format!("the file is larger than {} KiB", limit::TEXT_BYTES / 1024), None));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let valid = &bytes[..error.valid_up_to()];
        let before = std::str::from_utf8(valid).expect("valid up to here by the error's own word");
        problem("the text is not UTF-8", Some(line_and_column(before, before.len())))
    })?;
    let raw: RawRecipe = toml::from_str(text).map_err(|error| {
        let at = error.span().map(|span| line_and_column(text, span.start));
        problem(&one_line(error.message()), at)
    })?;
    raw.check().map_err(|complaint| {
        let at = complaint.at.map(|span| line_and_column(text, span.start));
        problem(&complaint.reason, at)
    })
}

impl RawRecipe {
    fn check(self) -> Checked<Recipe> {
        count("steps", self.steps.len(), limit::STEPS)?;
        count("checks", self.checks.len(), limit::CHECKS)?;
        count("variables", self.env.len(), limit::ENV)?;
        count("allowed hosts", self.egress.allow.len(), limit::EGRESS)?;
        let mut names = HashSet::new();
        let mut steps = Vec::with_capacity(self.steps.len());
        for step in self.steps {
            steps.push(step.into_inner().check(&mut names)?);
        }
        let mut checks = Vec::with_capacity(self.checks.len());
        for check in self.checks {
            checks.push(check.into_inner().check(&mut names)?);
        }
        Ok(Recipe {
            base: base(self.base)?,
            steps,
            checks,
            env: env(self.env)?,
            egress_allow: all(self.egress.allow, check::egress)?,
            resources: self.resources.check()?,
        })
    }
}

impl RawStep {
    fn check(self, names: &mut HashSet<String>) -> Checked<Step> {
        count("inputs", self.inputs.len(), limit::INPUTS)?;
        Ok(Step {
            name: unique(self.name, names)?,
            run: one(self.run, check::run)?,
            inputs: all(self.inputs, check::input)?,
            timeout_minutes: timeout(self.timeout_minutes)?,
        })
    }
}

impl RawCheck {
    fn check(self, names: &mut HashSet<String>) -> Checked<Check> {
        Ok(Check {
            name: unique(self.name, names)?,
            run: one(self.run, check::run)?,
            is_optional: self.optional,
            timeout_minutes: timeout(self.timeout_minutes)?,
        })
    }
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
    match base {
        None => Ok(RecipeBase::Host),
        Some(text) if text.get_ref() == "host" => Ok(RecipeBase::Host),
        Some(text) => Err(Complaint {
            reason: format!("the base {:?} is not supported; only \"host\" is", shorten(text.get_ref())),
            at: Some(text.span()),
        }),
    }
}

fn env(raw: BTreeMap<String, Text>) -> Checked<BTreeMap<String, String>> {
    raw.into_iter()
        .map(|(name, value)| {
            let at = value.span();
            check::variable(&name, value.get_ref()).map_err(|reason| Complaint { reason, at: Some(at) })?;
            Ok((name, value.into_inner()))
        })
        .collect()
}

fn unique(name: Text, names: &mut HashSet<String>) -> Checked<String> {
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

/// Both counted from 1, the column in characters.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

fn problem(reason: &str, at: Option<(usize, usize)>) -> Problem {
    let place = at.map(|(line, column)| format!(", line {line}, column {column}")).unwrap_or_default();
    Problem::new(ErrorCode::RecipeInvalid, format!("{RECIPE_PATH}{place}: {reason}."))
        .hint("Correct the file, commit it, and build the image again; the last good image stays in use.")
}

fn one_line(message: &str) -> String {
    shorten(&message.split_whitespace().collect::<Vec<_>>().join(" "))
}

pub(super) fn shorten(text: &str) -> String {
    const LONGEST: usize = 300;
    let mut short: String = text.chars().take(LONGEST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
