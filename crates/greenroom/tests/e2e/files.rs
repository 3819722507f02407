//! Files on prompts and files that the agent publishes, from the command line to the sandbox and back.

use crate::support::{Model, NO_STEPS, Server, assert_problem, bash, call, outcomes};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use greenroom_domain::event::TurnOutcome;
use greenroom_model::testing::Turn;
use serde_json::json;

/// One pixel.
const PNG: &[u8] =
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\0\0\0\rIDATx\
    \x9cc\xf8\xcf\xc0\xf0\x1f\0\x05\0\x01\xff\x89\x99=\x1d\0\0\0\0IEND\xaeB`\x82";

#[test]
fn attached_files_reach_model_and_sandbox_and_published_ones_come_back() {
    let server = Server::start();
    let model = Model::new(|asked| match asked.step {
        0 => bash("cat /attachments/*/data.bin | wc -c; git status --short; ln -s /etc/hostname link"),
        1 => call("publish", &json!({"path": "link", "title": "A link"})),
        2 => bash("printf '<script>alert(1)</script>' > report.html"),
        3 => call(
            "publish",
            &json!({"path": "report.html", "title": "The report", "description": "All of it"}),
        ),
        _ => Turn::text("done"),
    });
    server.use_model(&model);
    server.add_repository("sample", &[NO_STEPS, ("a.txt", "a\n")]);
    let here = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = here.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (shot, notes) = (write("shot.png", PNG), write("notes.md", b"be kind"));
    let data = write("data.bin", &[0xff; 70_000]);
    let attach = ["--attach", &shot, "--attach", &notes, "--attach", &data];
    let started = server.json(&[&["run", "sample", "look", "--detach"][..], &attach].concat());
    let session = started["id"].as_str().unwrap().to_owned();
    let log = server.settled(session.parse().unwrap());
    assert_eq!(outcomes(&log), [TurnOutcome::Completed]);

    // The model saw the picture, read the note, and was told of the rest.
    let request = model.wait_for_requests(1)[0].json().to_string();
    let picture = BASE64_STANDARD.encode(PNG);
    assert!(request.contains(&picture), "{request}");
    assert!(
        request.contains("be kind") && request.contains("/data.bin (application/octet-stream"),
        "{request}"
    );
    let said = serde_json::to_string(&log).unwrap();
    assert!(!said.contains(&picture) && !said.contains("be kind"), "bytes are in no event");
    // The sandbox had them, outside the repository; a link was not published.
    assert!(said.contains("70000\\n"), "{said}");
    assert!(said.contains("no plain file"), "{said}");

    let listed = server.json(&["session", "artifacts", &session]);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(
        (&listed[0]["title"], &listed[0]["file"]["media_type"]),
        (&json!("The report"), &json!("text/plain"))
    );
    let to = here.path().join("out.html");
    let to = to.to_str().unwrap();
    server.cli(&["session", "artifacts", &session, "--download", "1", "--to", to]);
    assert_eq!(std::fs::read_to_string(to).unwrap(), "<script>alert(1)</script>");
    let again = server.problem(&["session", "artifacts", &session, "--download", "1", "--to", to]);
    assert_problem(&again, "invalid_request");
}

#[test]
fn a_file_over_the_limit_is_refused_with_its_reason() {
    let server = Server::start();
    server.add_repository("sample", &[NO_STEPS, ("a.txt", "a\n")]);
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(21 * 1024 * 1024).unwrap();
    let path = file.path().to_str().unwrap();
    assert_problem(&server.problem(&["run", "sample", "look", "--attach", path]), "too_large");
}
