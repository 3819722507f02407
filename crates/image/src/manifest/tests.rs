//! Tests of `manifest`.

use super::*;

fn manifest() -> ImageManifest {
    ImageManifest {
        version: MANIFEST_VERSION,
        id: ImageId::from_parts(1, 2),
        repository: RepositoryId::from_parts(1, 3),
        commit: "a".repeat(40).parse().unwrap(),
        branch: "main".parse().unwrap(),
        runtime_version: "overlay-1-root".into(),
        base_fingerprint: "f".into(),
        base: ImageBase::Host,
        layers: vec![LayerRef { key: "b".repeat(64).parse().unwrap(), step: "clone".into() }],
        env: BTreeMap::new(),
        egress_allow: vec!["a.example:8443".into()],
        egress_ports: vec![8443],
        secrets: vec!["KEY".into()],
        resources: RecipeResources { cpus: Some(1.5), ..RecipeResources::default() },
        instructions: Instructions::default(),
        steps: vec![Step {
            name: "dependencies".into(),
            run: "install".into(),
            inputs: vec!["*.lock".into()],
            services: vec![],
            timeout_minutes: 5,
        }],
        services: Vec::new(),
        ports: Vec::new(),
        parts: Vec::new(),
        checks: vec![CheckReport {
            name: "tests".into(),
            is_optional: true,
            outcome: ExitReason::TimedOut,
            duration_ms: 3,
        }],
        reuse: Reuse {
            environment: "d".repeat(64).parse().unwrap(),
            clone: vec![],
            checks: None,
            caches: vec![],
        },
        created_at_ms: 5,
    }
}

#[test]
fn a_manifest_survives_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let written = manifest();
    written.write(directory.path()).unwrap();
    assert_eq!(ImageManifest::read(directory.path(), written.id, "overlay-1-root").unwrap(), written);
    assert_eq!(directory.path().read_dir().unwrap().count(), 1);
}

#[test]
fn what_this_version_cannot_run_is_refused_with_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let id = manifest().id;
    let refusal = || ImageManifest::read(directory.path(), id, "overlay-2-root").unwrap_err();
    assert_eq!(refusal().problem().code, ErrorCode::ImageMissing);
    manifest().write(directory.path()).unwrap();
    assert!(refusal().to_string().contains("overlay-1-root, and this one is overlay-2-root"));
    ImageManifest { id: ImageId::from_parts(9, 9), ..manifest() }.write(directory.path()).unwrap();
    assert!(matches!(refusal(), ManifestError::Damaged { .. }));
    for version in [1, 3] {
        let text = format!(r#"{{"version": {version}, "new": true}}"#);
        std::fs::write(directory.path().join(FILE_NAME), text).unwrap();
        assert!(matches!(refusal(), ManifestError::UnknownVersion { found, .. } if found == version));
    }
    std::fs::write(directory.path().join(FILE_NAME), "{").unwrap();
    assert!(matches!(refusal(), ManifestError::Damaged { .. }));
}

#[test]
fn a_session_learns_which_steps_its_sync_touched() {
    assert_eq!(manifest().steps_touched_by(&["a.lock".into()])[0].name, "dependencies");
    assert!(manifest().steps_touched_by(&["src/main.rs".into()]).is_empty());
}

#[test]
fn a_missing_layer_gives_no_sandbox_at_all() {
    let data = tempfile::tempdir().unwrap();
    let layers = LayerStore::open(data.path()).unwrap();
    let error = manifest().claim_parts(&layers, &SandboxSetup::default()).unwrap_err();
    assert!(matches!(error, ManifestError::LayerMissing { .. }));
    let key = "c".repeat(64).parse().unwrap();
    let based = ImageManifest {
        base: ImageBase::Unpacked { key, name: "oci:a".into() },
        layers: vec![],
        ..manifest()
    };
    let error = based.claim_parts(&layers, &SandboxSetup::default()).unwrap_err();
    assert!(matches!(error, ManifestError::LayerMissing { step, .. } if step == "base"));
}
