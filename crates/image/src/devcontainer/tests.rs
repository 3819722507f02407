//! Tests of `devcontainer`.

use super::*;
use greenroom_domain::ErrorCode;

const PATH: &str = ".devcontainer/devcontainer.json";

fn read(text: &str) -> Devcontainer {
    parse(PATH, text.as_bytes()).unwrap_or_else(|problem| panic!("{text}\n{problem}"))
}

fn refusal(text: &str) -> String {
    let problem = parse(PATH, text.as_bytes()).expect_err(text);
    assert_eq!(problem.code, ErrorCode::RecipeInvalid);
    assert!(!problem.message.contains('\n') && problem.message.len() < 1024, "{}", problem.message);
    problem.message
}

#[test]
fn a_file_with_comments_and_trailing_commas_is_read() {
    let made = read(
        r#"// For the team.
{
    "name": "Sample", /* shown by editors */
    "image": "mcr.microsoft.com/devcontainers/javascript-node:1-20",
    "onCreateCommand": ["npm", "install", "it's here"],
    "updateContentCommand": "npm run build",
    "postCreateCommand": { "schema": "npm run migrate", "seed": ["npm", "run", "seed"], },
    "forwardPorts": [3000, "localhost:5173", "db:5432", 3000],
    "portsAttributes": { "3000": { "label": "web" } },
    "containerEnv": { "A": "1", "PATH": "/opt/x/bin:${containerEnv:PATH}" },
    "remoteEnv": { "B": "${containerEnv:A}-${localEnv:HOME:none}", "C": null },
    "customizations": { "vscode": {} },
}"#,
    );
    let recipe = &made.recipe;
    assert_eq!(recipe.base.text(), "oci:mcr.microsoft.com/devcontainers/javascript-node:1-20");
    let steps: Vec<_> = recipe.steps.iter().map(|step| (step.name.as_str(), step.run.as_str())).collect();
    assert_eq!(
        steps,
        [
            ("on create", "'npm' 'install' 'it'\\''s here'\n"),
            ("update content", "npm run build\n"),
            ("post create: schema", "npm run migrate\n"),
            ("post create: seed", "'npm' 'run' 'seed'\n"),
        ]
    );
    let ports: Vec<_> = recipe.ports.iter().map(|port| (port.port, port.name.as_str())).collect();
    assert_eq!(ports, [(3000, "web"), (5173, "port 5173")]);
    assert_eq!(recipe.env["PATH"], "/opt/x/bin:${PATH}");
    assert_eq!(recipe.env["B"], "1-none");
    assert!(made.has_commands && made.has_own_base());
    assert_eq!(
        made.notes[..2],
        [
            "B: ${localEnv:HOME:none} is not known inside; its default is used",
            "forwardPorts: db:5432 is no port of the sandbox itself"
        ]
    );
    assert_eq!(made.notes.len(), 3, "{:?}", made.notes);
}

#[test]
fn what_is_not_done_is_said_with_its_reason() {
    let made = read(
        r#"{"build": {"dockerfile": "Dockerfile"}, "features": {"ghcr.io/x/go:1": {}}, "initializeCommand": "curl x",
            "remoteUser": "vscode", "runArgs": ["--privileged"], "surprise": 1, "mounts": []}"#,
    );
    assert_eq!(made.recipe, Recipe::default());
    assert!(!made.has_commands);
    let notes = made.notes.join("\n");
    for words in [
        "build is not built",
        "features are not installed",
        "initializeCommand would run on the server's machine",
        "remoteUser is not used",
        "runArgs is not given",
        "surprise is not known here",
        "mounts are not made",
    ] {
        assert!(notes.contains(words), "{words}\n{notes}");
    }
    assert_eq!(made.notes.len(), 7);
}

#[test]
fn commands_run_where_the_workspace_folder_says() {
    let run = |folder: &str| {
        let text = format!(r#"{{"workspaceFolder": "{folder}", "postCreateCommand": "make"}}"#);
        read(&text).recipe.steps[0].run.clone()
    };
    assert_eq!(run("/workspace"), "make\n");
    assert_eq!(run("/workspace/web app"), "cd 'web app'\nmake\n");
    let below = run("/workspaces/${localWorkspaceFolderBasename}/api");
    assert!(below.contains("ln -s /workspace '/workspaces/workspace'\ncd 'api'\nmake\n"), "{below}");
    assert!(run("/srv/app").contains("ln -s /workspace '/srv/app'\nmake\n"));
    for script in [below, run("/srv/it's")] {
        let status = std::process::Command::new("sh").args(["-n", "-c", &script]).status().unwrap();
        assert!(status.success(), "{script}");
    }
}

#[test]
fn a_refusal_names_line_and_column() {
    for (text, place) in [
        ("{\n  \"image\": 5\n}", "line 2, column 3"),
        ("{\n\n  \"image\": \"-x\"}", "line 3, column 3"),
        ("{\"a\": 1,\n  \"postCreateCommand\": 5}", "line 2, column 3"),
        ("{\"onCreateCommand\": [1]}", "line 1, column 2"),
        ("{\"onCreateCommand\": \" \"}", "line 1, column 2"),
        ("{\"workspaceFolder\": \"relative\"}", "line 1, column 2"),
        ("{\"workspaceFolder\": \"/a/../b\"}", "line 1, column 2"),
        ("{\"containerEnv\": {\"A B\": \"1\"}}", "line 1, column 2"),
        ("{\"containerEnv\": {\"GREENROOM_X\": \"1\"}}", "line 1, column 2"),
        ("{\n \"a\": \n}", "line 3, column 1"),
        ("[]", "line 1, column 1"),
        ("", "line 1, column 1"),
    ] {
        let message = refusal(text);
        assert!(message.contains(place), "{text}\n{message}");
    }
    assert!(refusal(&"[".repeat(60_000)).contains("nesting"));
    assert!(refusal(&" ".repeat(limit::TEXT_BYTES + 1)).contains("larger than 64 KiB"));
    parse(PATH, b"\xff").unwrap_err();
}

#[test]
fn too_much_of_anything_is_refused() {
    let many: Vec<String> = (0..65).map(|n| format!("\"c{n}\": \"true\"")).collect();
    assert!(refusal(&format!("{{\"postCreateCommand\": {{{}}}}}", many.join(","))).contains("64 commands"));
    let ports: Vec<String> = (1..40).map(|n| n.to_string()).collect();
    assert!(refusal(&format!("{{\"forwardPorts\": [{}]}}", ports.join(","))).contains("32 ports"));
    assert!(refusal(&format!("{{\"onCreateCommand\": \"{}\"}}", "x".repeat(9000))).contains("8 KiB"));
}
