//! A recipe from `devcontainer.json` (<https://containers.dev/implementors/json_reference/>), for repositories that have
//! one and no recipe. What it asks for and this platform does not do is never dropped silently: each such field gives a
//! sentence for the build's log. Pure.

mod command;
#[cfg(test)]
mod tests;

use crate::recipe::text::{line_and_column, problem_in, shorten};
use crate::recipe::{Port, Recipe, RecipeBase, Step, check, limit};
use command::{Command, commands, quote};
use greenroom_domain::Problem;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use serde_json::Value;
use std::collections::BTreeMap;

/// Where one is looked for, in this order.
pub const PATHS: [&str; 2] = [".devcontainer/devcontainer.json", ".devcontainer.json"];

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Devcontainer {
    pub recipe: Recipe,
    /// Sentences about what was left out, for the build's log.
    pub notes: Vec<String>,
    /// Without commands of its own, dependencies are a matter for detection.
    pub has_commands: bool,
}

/// Life-cycle commands that are steps, in the order of the specification.
const COMMANDS: [(&str, &str); 3] = [
    ("onCreateCommand", "on create"),
    ("updateContentCommand", "update content"),
    ("postCreateCommand", "post create"),
];
/// Fields for editors, or without a meaning here.
const WITHOUT_MEANING: [&str; 12] = [
    "$schema",
    "name",
    "customizations",
    "portsAttributes",
    "otherPortsAttributes",
    "shutdownAction",
    "waitFor",
    "userEnvProbe",
    "overrideCommand",
    "updateRemoteUserUID",
    "extensions",
    "settings",
];
/// Fields that are told, each with the reason.
const LEFT_OUT: [(&str, &str); 25] = [
    ("build", BUILD),
    ("dockerFile", BUILD),
    ("context", BUILD),
    ("dockerComposeFile", COMPOSE),
    ("service", COMPOSE),
    ("runServices", COMPOSE),
    (
        "features",
        "are not installed; a step of .greenroom/environment.toml can install the same with apt-get",
    ),
    ("overrideFeatureInstallOrder", "belongs to features"),
    ("initializeCommand", "would run on the server's machine, where no repository's text is run"),
    ("postStartCommand", "is not run; declare what it starts as a service in .greenroom/environment.toml"),
    ("postAttachCommand", "is not run: nobody attaches to a session"),
    ("appPort", "is not used; list the port in forwardPorts"),
    ("mounts", MOUNTS),
    ("workspaceMount", MOUNTS),
    ("runArgs", ENGINE),
    ("privileged", ENGINE),
    ("capAdd", ENGINE),
    ("securityOpt", ENGINE),
    ("init", "is always so"),
    ("entrypoint", ENGINE),
    ("containerUser", USER),
    ("remoteUser", USER),
    ("secrets", "are declared by an admin and listed in .greenroom/environment.toml"),
    ("hostRequirements", "are not read; [resources] of .greenroom/environment.toml sets the limits"),
    ("gpu", "is not offered"),
];
const BUILD: &str =
    "is not built: the base is the server's root; name an `image`, or a base in .greenroom/environment.toml";
const COMPOSE: &str = "is not composed; declare services in .greenroom/environment.toml";
const MOUNTS: &str = "are not made: a sandbox shows nothing of the server's disk";
const ENGINE: &str = "is not given: there is no container engine that could take it";
const USER: &str = "is not used: commands run as root of the sandbox, which is nobody outside of it";

/// `path` is for the words of a refusal (`recipe_invalid`, with line and column).
pub fn parse(path: &str, bytes: &[u8]) -> Result<Devcontainer, Problem> {
    if bytes.len() > limit::TEXT_BYTES {
        let reason = format!("the file is larger than {} KiB", limit::TEXT_BYTES / 1024);
        return Err(problem_in(path, &reason, None));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| problem_in(path, "the text is not UTF-8", None))?;
    let text = text.trim_start_matches('\u{feff}');
    let at = |offset| Some(line_and_column(text, offset));
    let parsed = parse_to_ast(text, &CollectOptions::default(), &ParseOptions::default())
        .map_err(|error| problem_in(path, &reason_of(&error), at(error.range().start)))?;
    let Some(object) = parsed.value.as_ref().and_then(|value| value.as_object()) else {
        return Err(problem_in(path, "it is not a JSON object", at(0)));
    };
    let mut fields = Fields::default();
    for property in &object.properties {
        let name = property.name.as_str().to_owned();
        fields.0.push(Field { name, value: property.value.clone().into(), offset: property.range.start });
    }
    fields.read().map_err(|complaint| problem_in(path, &complaint.reason, at(complaint.offset)))
}

/// The library's words carry a place of their own, which ours repeats.
fn reason_of(error: &jsonc_parser::errors::ParseError) -> String {
    shorten(&error.kind().to_string())
}

struct Field {
    name: String,
    value: Value,
    offset: usize,
}

struct Complaint {
    reason: String,
    offset: usize,
}

type Checked<T> = Result<T, Complaint>;

#[derive(Default)]
struct Fields(Vec<Field>);

impl Field {
    fn complain<T>(&self, reason: impl std::fmt::Display) -> Checked<T> {
        Err(Complaint { reason: format!("{:?}: {reason}", shorten(&self.name)), offset: self.offset })
    }

    fn checked<T>(&self, result: Result<T, String>) -> Checked<T> {
        result.or_else(|reason| self.complain(reason))
    }

    fn text(&self) -> Checked<&str> {
        self.value.as_str().map_or_else(|| self.complain("a text is expected"), Ok)
    }
}

impl Fields {
    fn get(&self, name: &str) -> Option<&Field> {
        self.0.iter().find(|field| field.name == name && !field.value.is_null())
    }

    fn read(&self) -> Checked<Devcontainer> {
        let mut made = Devcontainer { notes: self.left_out(), ..Devcontainer::default() };
        if let Some(image) = self.get("image") {
            let base = format!("oci:{}", image.text()?);
            made.recipe.base = image.checked(check::base(&base))?;
        }
        let folder = self.folder()?;
        made.recipe.env = self.env(&mut made.notes)?;
        made.recipe.ports = self.ports(&mut made.notes)?;
        made.recipe.steps = self.steps(folder.as_ref())?;
        made.has_commands = COMMANDS.iter().any(|(field, _)| self.get(field).is_some());
        if made.has_commands {
            made.notes.push(
                "the commands of a devcontainer name no inputs, so they run at each new commit; \
                 .greenroom/environment.toml can name them"
                    .into(),
            );
        }
        Ok(made)
    }

    fn left_out(&self) -> Vec<String> {
        let is_used = ["image", "forwardPorts", "containerEnv", "remoteEnv", "workspaceFolder"];
        let note = |field: &Field| {
            let name = field.name.as_str();
            let is_known = is_used.contains(&name) || WITHOUT_MEANING.contains(&name);
            if is_known || COMMANDS.iter().any(|(command, _)| *command == name) || field.value.is_null() {
                return None;
            }
            let reason = LEFT_OUT.iter().find(|(known, _)| *known == name).map(|(_, reason)| *reason);
            Some(format!("{} {}", one_line(name), reason.unwrap_or("is not known here and is left out")))
        };
        self.0.iter().filter_map(note).take(64).collect()
    }

    /// Where commands run: `/workspace`, or a directory below it; and the link that makes the declared path lead there.
    fn folder(&self) -> Checked<Option<Folder>> {
        let Some(field) = self.get("workspaceFolder") else { return Ok(None) };
        let text = field
            .text()?
            .replace("${localWorkspaceFolderBasename}", "workspace")
            .replace("${containerWorkspaceFolder}", "/workspace")
            .replace("${localWorkspaceFolder}", "/workspace");
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        let is_path = text.starts_with('/') && !parts.is_empty() && !parts.contains(&"..");
        if !is_path || text.contains("${") || text.len() > limit::INPUT_CHARS || text.contains('\0') {
            return field.complain("an absolute path is expected");
        }
        // `/workspaces/NAME/below` is the tools' own default: NAME is the clone.
        let (link, below) = match parts.as_slice() {
            ["workspace", below @ ..] => (None, below),
            ["workspaces", name, below @ ..] => (Some(format!("/workspaces/{name}")), below),
            _ => (Some(format!("/{}", parts.join("/"))), &[][..]),
        };
        Ok(Some(Folder { link, below: below.join("/") }))
    }

    fn steps(&self, folder: Option<&Folder>) -> Checked<Vec<Step>> {
        let mut steps = Vec::new();
        let mut before = folder.map_or(String::new(), Folder::enter);
        if let Some(link) = folder.and_then(|folder| folder.link.as_ref()) {
            before = format!(
                "mkdir -p \"$(dirname {0})\"\n[ -e {0} ] || ln -s /workspace {0}\n{before}",
                quote(link)
            );
        }
        for (name, title) in COMMANDS {
            let Some(field) = self.get(name) else { continue };
            let Some(found) = commands(&field.value) else {
                return field.complain("a command is a text, a list of texts, or an object of these");
            };
            for Command { name, run } in found {
                let name = name.map_or(title.to_owned(), |name| format!("{title}: {}", one_line(&name)));
                let name: String = name.chars().take(limit::NAME_CHARS).collect();
                let run = format!("{before}{run}\n");
                field.checked(check::run(&run))?;
                if steps.iter().any(|step: &Step| step.name == name) {
                    return field.complain(format!("the name {name:?} is used twice"));
                }
                steps.push(Step {
                    name,
                    run,
                    inputs: vec![],
                    services: vec![],
                    timeout_minutes: crate::recipe::DEFAULT_TIMEOUT_MINUTES,
                });
            }
            if steps.len() > limit::STEPS {
                return field.complain(format!("there are more than {} commands", limit::STEPS));
            }
        }
        Ok(steps)
    }

    /// `remoteEnv` over `containerEnv`; both hold for everything inside.
    fn env(&self, notes: &mut Vec<String>) -> Checked<BTreeMap<String, String>> {
        let mut env = BTreeMap::new();
        for name in ["containerEnv", "remoteEnv"] {
            let Some(field) = self.get(name) else { continue };
            let Some(map) = field.value.as_object() else { return field.complain("an object is expected") };
            for (variable, value) in map {
                let Some(text) = value.as_str() else { continue };
                let value = substitute(variable, text, &env, notes);
                field.checked(check::variable(variable, &value))?;
                env.insert(variable.clone(), value);
            }
            if env.len() > limit::ENV {
                return field.complain(format!("there are more than {} variables", limit::ENV));
            }
        }
        Ok(env)
    }

    fn ports(&self, notes: &mut Vec<String>) -> Checked<Vec<Port>> {
        let Some(field) = self.get("forwardPorts") else { return Ok(vec![]) };
        let Some(list) = field.value.as_array() else { return field.complain("a list is expected") };
        let mut ports: Vec<Port> = Vec::new();
        for entry in list {
            let text = entry.as_str().map_or_else(|| entry.to_string(), str::to_owned);
            let own = ["localhost:", "127.0.0.1:"].iter().find_map(|host| text.strip_prefix(host));
            let Some(port) = own.unwrap_or(&text).parse().ok().filter(|port| *port > 0) else {
                notes.push(format!("forwardPorts: {} is no port of the sandbox itself", one_line(&text)));
                continue;
            };
            if ports.iter().any(|known| known.port == port) {
                continue;
            }
            ports.push(Port { port, name: self.label(port, &ports), is_http: true });
        }
        if ports.len() > limit::PORTS {
            return field.complain(format!("there are more than {} ports", limit::PORTS));
        }
        Ok(ports)
    }

    /// The label in `portsAttributes`, if it can be a name of its own.
    fn label(&self, port: u16, taken: &[Port]) -> String {
        let attributes = self.get("portsAttributes").and_then(|field| field.value.get(port.to_string()));
        let label = attributes.and_then(|entry| entry.get("label")?.as_str());
        let is_free = |name: &&str| check::name(name).is_ok() && taken.iter().all(|port| port.name != **name);
        label.filter(is_free).map_or_else(|| format!("port {port}"), str::to_owned)
    }
}

struct Folder {
    link: Option<String>,
    /// Below `/workspace`.
    below: String,
}

impl Folder {
    fn enter(&self) -> String {
        if self.below.is_empty() { String::new() } else { format!("cd {}\n", quote(&self.below)) }
    }
}

/// The variables of the specification. What belongs to the server's own environment never enters a sandbox.
fn substitute(name: &str, text: &str, known: &BTreeMap<String, String>, notes: &mut Vec<String>) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((variable, after)) = after.split_once('}') else { break };
        result.push_str(before);
        rest = after;
        let mut parts = variable.splitn(3, ':');
        let kind = parts.next().unwrap_or_default();
        let (wanted, default) = (parts.next().unwrap_or_default(), parts.next());
        match kind {
            "containerEnv" if wanted == "PATH" && name == "PATH" => result.push_str("${PATH}"),
            "containerEnv" if known.contains_key(wanted) => result.push_str(&known[wanted]),
            "containerWorkspaceFolder" | "localWorkspaceFolder" => result.push_str("/workspace"),
            "containerWorkspaceFolderBasename" | "localWorkspaceFolderBasename" => {
                result.push_str("workspace");
            }
            _ => {
                result.push_str(default.unwrap_or_default());
                notes.push(format!(
                    "{}: ${{{}}} is not known inside{}",
                    one_line(name),
                    one_line(variable),
                    default.map_or("", |_| "; its default is used")
                ));
            }
        }
    }
    result.push_str(rest);
    result
}

fn one_line(text: &str) -> String {
    let words: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(100).collect();
    words.trim().to_owned()
}

/// Its base when it is of the server's root only because it could not be built.
impl Devcontainer {
    pub fn has_own_base(&self) -> bool {
        self.recipe.base != RecipeBase::Host
    }
}
